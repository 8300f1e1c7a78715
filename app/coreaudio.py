"""Which devices macOS has and which are its defaults, asked of CoreAudio directly.

PortAudio can't tell without closing every stream. Anywhere else, and when the framework says no,
`fingerprint` is None: then a stream that ends is the only sign of a change.
https://developer.apple.com/documentation/coreaudio/audioobjectgetpropertydata(_:_:_:_:_:_:)
"""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

FRAMEWORK = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
SYSTEM_OBJECT = 1  # kAudioObjectSystemObject
MOST_DEVICES = 256


def code(four: str) -> int:
    """A four-character code as the number that CoreAudio takes."""
    return int.from_bytes(four.encode("ascii"), "big")


DEVICES, DEFAULT_INPUT, DEFAULT_OUTPUT = code("dev#"), code("dIn "), code("dOut")


class Address(ctypes.Structure):
    """AudioObjectPropertyAddress, of the whole object."""

    _fields_ = (
        ("selector", ctypes.c_uint32),
        ("scope", ctypes.c_uint32),
        ("element", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Fingerprint:
    """Numbers of devices; equal when nothing has changed."""

    default_input: int
    default_output: int
    devices: tuple[int, ...]


@cache
def framework() -> Any:
    """The loaded framework; None where there is none."""
    if sys.platform != "darwin":
        return None
    try:
        return ctypes.CDLL(FRAMEWORK)
    except OSError:
        return None


def fingerprint(library: Any = None) -> Fingerprint | None:
    library = library or framework()
    if library is None:
        return None
    inputs, outputs = read(library, DEFAULT_INPUT), read(library, DEFAULT_OUTPUT)
    devices = read(library, DEVICES)
    if not inputs or not outputs or devices is None:
        return None
    return Fingerprint(inputs[0], outputs[0], tuple(sorted(devices)))


def read(library: Any, selector: int) -> list[int] | None:
    """A property of the system object that holds device numbers; None when it says no."""
    address = Address(selector, code("glob"), 0)
    values = (ctypes.c_uint32 * MOST_DEVICES)()
    size = ctypes.c_uint32(ctypes.sizeof(values))
    status = library.AudioObjectGetPropertyData(
        ctypes.c_uint32(SYSTEM_OBJECT),
        ctypes.byref(address),
        ctypes.c_uint32(0),
        None,
        ctypes.byref(size),
        ctypes.byref(values),
    )
    return list(values)[: size.value // 4] if status == 0 else None
