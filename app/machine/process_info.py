"""NSProcessInfo's two facts about speed, through the Objective-C runtime.

https://developer.apple.com/documentation/foundation/nsprocessinfo
"""

import ctypes
from typing import Any

from .power import THERMAL


def low_power_and_heat(objc: Any) -> tuple[bool, str | None]:
    """Is Low Power Mode on, and the thermal state; `objc`: the runtime, Foundation loaded."""
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
    objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]
    pointer, send = ctypes.c_void_p, ctypes.cast(objc.objc_msgSend, ctypes.c_void_p).value
    assert send is not None
    get_object = ctypes.CFUNCTYPE(pointer, pointer, pointer)(send)
    get_flag = ctypes.CFUNCTYPE(ctypes.c_bool, pointer, pointer)(send)
    get_number = ctypes.CFUNCTYPE(ctypes.c_long, pointer, pointer)(send)
    selector = objc.sel_registerName
    info = get_object(objc.objc_getClass(b"NSProcessInfo"), selector(b"processInfo"))
    state = get_number(info, selector(b"thermalState"))
    saves = get_flag(info, selector(b"isLowPowerModeEnabled"))
    return saves, THERMAL[state] if 0 <= state < len(THERMAL) else None
