"""Which devices macOS has and which are its defaults, asked of CoreAudio directly.

PortAudio can't tell without closing every stream. Anywhere else, and whatever goes wrong with the
framework, the answer is None: then a stream that ends is the only sign of a change, and a headset
is known by its name and rate.
https://developer.apple.com/documentation/coreaudio/audioobjectgetpropertydata(_:_:_:_:_:_:)
"""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

FRAMEWORK = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
SYSTEM_OBJECT = 1  # kAudioObjectSystemObject; 0 is kAudioObjectUnknown, "none"
MOST_DEVICES = 256


def code(four: str) -> int:
    """A four-character code as the number that CoreAudio takes."""
    return int.from_bytes(four.encode("ascii"), "big")


DEVICES, DEFAULT_INPUT, DEFAULT_OUTPUT = code("dev#"), code("dIn "), code("dOut")
RUN_LOOP, TRANSPORT, GLOBAL = code("rnlp"), code("tran"), code("glob")
BLUETOOTH = (code("blue"), code("blea"))  # and its low energy kind


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
        library = ctypes.CDLL(FRAMEWORK)
        own_thread(library)
    except (OSError, AttributeError):
        return None
    return library


def own_thread(library: Any) -> None:
    """Let CoreAudio hear of changes on a thread of its own.

    It would wait for the main thread's run loop, which a terminal program never runs, and answer
    for ever as it did at first.
    """
    address, no_loop = Address(RUN_LOOP, GLOBAL, 0), ctypes.c_void_p(None)
    library.AudioObjectSetPropertyData(
        ctypes.c_uint32(SYSTEM_OBJECT),
        ctypes.byref(address),
        ctypes.c_uint32(0),
        None,
        ctypes.c_uint32(ctypes.sizeof(no_loop)),
        ctypes.byref(no_loop),
    )


def fingerprint(library: Any = None) -> Fingerprint | None:
    library = library or framework()
    inputs, outputs = read(library, DEFAULT_INPUT), read(library, DEFAULT_OUTPUT)
    devices = read(library, DEVICES)
    if not inputs or not outputs or devices is None:
        return None
    return Fingerprint(inputs[0], outputs[0], tuple(sorted(devices)))


def default_input_is_bluetooth(library: Any = None) -> bool | None:
    """None where nobody can tell."""
    library = library or framework()
    inputs = read(library, DEFAULT_INPUT)
    if not inputs or not inputs[0]:
        return None
    transport = read(library, TRANSPORT, inputs[0])
    return transport[0] in BLUETOOTH if transport and transport[0] else None


def read(library: Any, selector: int, of: int = SYSTEM_OBJECT) -> list[int] | None:
    """A property that holds 32-bit numbers, of an object; None when it can't be had."""
    if library is None:
        return None
    address = Address(selector, GLOBAL, 0)
    values = (ctypes.c_uint32 * MOST_DEVICES)()
    size = ctypes.c_uint32(ctypes.sizeof(values))
    try:
        status = library.AudioObjectGetPropertyData(
            ctypes.c_uint32(of),
            ctypes.byref(address),
            ctypes.c_uint32(0),
            None,
            ctypes.byref(size),
            ctypes.byref(values),
        )
    except (AttributeError, ctypes.ArgumentError):  # another framework than we know
        return None
    return list(values)[: size.value // 4] if status == 0 else None
