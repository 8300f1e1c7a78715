"""May this terminal use the microphone: what macOS says, and making it ask.

Run as a process of its own, since a wrong call into AVFoundation ends the one that makes it, and
the first load of it takes seconds: `python -m app.audio.permission [ask]` prints the state as a
line, "granted", "denied" or "not asked", and with `ask` puts the system's question and prints the
answer once it is given. macOS asks for the terminal: a child of it is answered like itself.
https://developer.apple.com/documentation/avfoundation/avcapturedevice
"""

import contextlib
import ctypes
import ctypes.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from .process.process import environment

STATES = {0: "not asked", 1: "denied", 2: "denied", 3: "granted"}  # AVAuthorizationStatus
POLL_S = 1.0
GLOBAL_BLOCK = 1 << 28  # BLOCK_IS_GLOBAL: never copied, never freed
COMMAND = ("-m", f"{__package__}.permission")


class BlockDescriptor(ctypes.Structure):
    _fields_ = (("reserved", ctypes.c_ulong), ("size", ctypes.c_ulong))


class ObjcBlock(ctypes.Structure):
    """A block without captured variables, as clang's Block ABI lays it out."""

    _fields_ = (
        ("isa", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("invoke", ctypes.c_void_p),
        ("descriptor", ctypes.POINTER(BlockDescriptor)),
    )


class AvFoundation:
    """AVCaptureDevice's two methods for sound, through the Objective-C runtime."""

    def __init__(self, objc: Any, blocks: Any) -> None:
        """`objc`: the runtime, its frameworks loaded; `blocks`: where _NSConcreteGlobalBlock is."""
        objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
        objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]
        self._objc, self._blocks = objc, blocks
        pointer, send = ctypes.c_void_p, ctypes.cast(objc.objc_msgSend, ctypes.c_void_p).value
        assert send is not None
        make_string = ctypes.CFUNCTYPE(pointer, pointer, pointer, ctypes.c_char_p)(send)
        self._status = ctypes.CFUNCTYPE(ctypes.c_long, pointer, pointer, pointer)(send)
        self._request = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, pointer)(send)
        self._class = objc.objc_getClass(b"AVCaptureDevice")
        self._sound = make_string(
            objc.objc_getClass(b"NSString"), self._selector(b"stringWithUTF8String:"), b"soun"
        )  # AVMediaTypeAudio
        self._kept: Any = None

    def _selector(self, name: bytes) -> Any:
        return self._objc.sel_registerName(name)

    def state(self) -> str | None:
        selector = self._selector(b"authorizationStatusForMediaType:")
        return STATES.get(self._status(self._class, selector, self._sound))

    def ask(self, answered: Callable[[bool], None] = lambda granted: None) -> None:
        """Returns at once; `answered` is called on a thread of the system's."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_bool)
        invoke = kind(lambda block, granted: answered(granted))
        descriptor = BlockDescriptor(0, ctypes.sizeof(ObjcBlock))
        block = ObjcBlock(
            ctypes.addressof(ctypes.c_char.in_dll(self._blocks, "_NSConcreteGlobalBlock")),
            GLOBAL_BLOCK,
            0,
            ctypes.cast(invoke, ctypes.c_void_p),
            ctypes.pointer(descriptor),
        )
        self._kept = (invoke, descriptor, block)  # the system calls it later
        selector = self._selector(b"requestAccessForMediaType:completionHandler:")
        self._request(self._class, selector, self._sound, ctypes.addressof(block))


def frameworks() -> AvFoundation:
    """macOS' own. Raises OSError or AttributeError elsewhere."""
    objc = ctypes.CDLL(ctypes.util.find_library("objc") or "libobjc.dylib")
    for framework in ("Foundation", "AVFoundation"):
        ctypes.CDLL(f"/System/Library/Frameworks/{framework}.framework/{framework}")
    return AvFoundation(objc, ctypes.CDLL(None))


class PermissionAsk:
    """The question in a process of its own. `state` never waits; None: not known (yet)."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self.state: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-P", *command, "ask"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdout.fileno(), False)

    def look(self) -> str | None:
        """The newest state."""
        if self._process is not None and self._process.stdout is not None:
            words = (self._process.stdout.read() or b"").decode().splitlines()
            self.state = words[-1] if words else self.state
        return self.state

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def main(
    asked: bool, system: AvFoundation, needed: Callable[[], bool], poll_s: float = POLL_S
) -> None:
    """Print the state, and the answer to the question, however late, while that is `needed`."""
    state = system.state()
    print(state or "", flush=True)
    if not asked or state != "not asked":
        return
    system.ask()
    while needed():
        time.sleep(poll_s)
        if (new := system.state()) != state:
            print(new or "", flush=True)
            return


if __name__ == "__main__":
    parent = os.getppid()
    main("ask" in sys.argv[1:], frameworks(), lambda: os.getppid() == parent)
