"""Which devices macOS has and what they are, asked of CoreAudio directly.

PortAudio knows names and channels only, and its list is as old as its start. Anywhere else, and
whatever goes wrong with the framework, the answer is None: then a stream that ends is the only sign
of a change. Called in the sound process, since CoreAudio may keep a caller waiting.
https://developer.apple.com/documentation/coreaudio/audioobjectgetpropertydata(_:_:_:_:_:_:)
"""

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from .device import Device

FRAMEWORK = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
SYSTEM_OBJECT = 1  # kAudioObjectSystemObject; 0 is kAudioObjectUnknown, "none"
MOST_DEVICES = 256
MOST_BYTES = 1024  # of a name in UTF-8
UTF8 = 0x08000100  # kCFStringEncodingUTF8


def code(four: str) -> int:
    """A four-character code as the number that CoreAudio takes."""
    return int.from_bytes(four.encode("ascii"), "big")


DEVICES, DEFAULT_INPUT, DEFAULT_OUTPUT = code("dev#"), code("dIn "), code("dOut")
RUN_LOOP, TRANSPORT, SOURCE = code("rnlp"), code("tran"), code("ssrc")
RATE, NAME, UID, STREAMS = code("nsrt"), code("lnam"), code("uid "), code("stm#")
GLOBAL, INPUT, OUTPUT = code("glob"), code("inpt"), code("outp")
TRANSPORTS = {  # kAudioDeviceTransportType...
    "bltn": "built-in",
    "blue": "bluetooth",
    "blea": "bluetooth",  # low energy
    "usb ": "usb",
    "hdmi": "hdmi",
    "dprt": "displayport",
    "airp": "airplay",
    "grup": "aggregate",
    "virt": "virtual",
    "thun": "thunderbolt",
    "pci ": "pci",
    "1394": "firewire",
    "ccwd": "continuity",  # an iPhone by cable, or without
    "ccwl": "continuity",
    "ccap": "continuity",
}


class Address(ctypes.Structure):
    """AudioObjectPropertyAddress, of the whole object."""

    _fields_ = (
        ("selector", ctypes.c_uint32),
        ("scope", ctypes.c_uint32),
        ("element", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Fingerprint:
    """Numbers of devices and the rates of the two defaults; equal when nothing has changed."""

    default_input: int
    default_output: int
    devices: tuple[int, ...]
    rates_hz: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Hardware:
    """A device as CoreAudio tells of it."""

    name: str
    inputs: bool
    outputs: bool
    transport: str | None = None
    uid: str | None = None
    source: str | None = None  # where the sound of an output goes: "ispk", "hdpn", ...
    rate_hz: float | None = None


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
    inputs, outputs = numbers(library, DEFAULT_INPUT), numbers(library, DEFAULT_OUTPUT)
    devices = numbers(library, DEVICES)
    if not inputs or not outputs or devices is None:
        return None
    rates = (rate_hz(library, inputs[0]), rate_hz(library, outputs[0]))
    return Fingerprint(inputs[0], outputs[0], tuple(sorted(devices)), rates)


def hardware(library: Any = None) -> list[Hardware]:
    """Every device, in CoreAudio's order, which is PortAudio's too; [] where nobody can tell."""
    library = library or framework()
    return [of_device(library, number) for number in numbers(library, DEVICES) or ()]


def of_device(library: Any, number: int) -> Hardware:
    transport, source = (
        numbers(library, TRANSPORT, number),
        numbers(library, SOURCE, number, OUTPUT),
    )
    return Hardware(
        name=text(library, NAME, number) or "",
        inputs=bool(numbers(library, STREAMS, number, INPUT)),
        outputs=bool(numbers(library, STREAMS, number, OUTPUT)),
        transport=TRANSPORTS.get(letters(transport[0]), "unknown") if transport else None,
        uid=text(library, UID, number),
        source=letters(source[0]) if source else None,
        rate_hz=rate_hz(library, number),
    )


def with_hardware(devices: Sequence[Device], found: Sequence[Hardware]) -> list[Device]:
    """PortAudio's devices with what CoreAudio says of them.

    PortAudio leaves out a device that it can't make out, so the two lists are walked together, and
    the next one of the same name and directions is meant.
    """
    rest, result = list(found), []
    for device in devices:
        same = [
            at
            for at, one in enumerate(rest)
            if (one.name, one.inputs, one.outputs)
            == (device.name, device.inputs > 0, device.outputs > 0)
        ]
        if not same:
            result.append(device)
            continue
        one = rest[same[0]]
        del rest[: same[0] + 1]
        facts = {"transport": one.transport, "uid": one.uid, "source": one.source}
        result.append(replace(device, **facts, rate_hz=one.rate_hz or device.rate_hz))
    return result


def letters(number: int) -> str:
    return number.to_bytes(4, "big").decode("latin-1")


def numbers(
    library: Any, selector: int, of: int = SYSTEM_OBJECT, scope: int = GLOBAL
) -> list[int] | None:
    """A property that holds 32-bit numbers, of an object; None when it can't be had."""
    values = (ctypes.c_uint32 * MOST_DEVICES)()
    size = _read(library, selector, of, scope, values)
    return None if size is None else list(values)[: size // 4]


def rate_hz(library: Any, of: int) -> float | None:
    """The rate that a device runs at."""
    value = ctypes.c_double()
    size = _read(library, RATE, of, GLOBAL, value)
    return value.value if size == ctypes.sizeof(value) and value.value > 0 else None


def text(library: Any, selector: int, of: int) -> str | None:
    """A property that is a CFString."""
    reference = ctypes.c_void_p()
    if _read(library, selector, of, GLOBAL, reference) is None or not reference.value:
        return None
    buffer = ctypes.create_string_buffer(MOST_BYTES)
    try:
        filled = library.CFStringGetCString(
            reference, buffer, ctypes.c_long(MOST_BYTES), ctypes.c_uint32(UTF8)
        )
        library.CFRelease(reference)
    except (AttributeError, ctypes.ArgumentError):
        return None
    return buffer.value.decode("utf-8", "replace") if filled & 0xFF else None


def _read(library: Any, selector: int, of: int, scope: int, into: Any) -> int | None:
    """Fill a ctypes value with a property; returns the bytes filled, None when it can't be had."""
    if library is None:
        return None
    address, size = Address(selector, scope, 0), ctypes.c_uint32(ctypes.sizeof(into))
    try:
        status = library.AudioObjectGetPropertyData(
            ctypes.c_uint32(of),
            ctypes.byref(address),
            ctypes.c_uint32(0),
            None,
            ctypes.byref(size),
            ctypes.byref(into),
        )
    except (AttributeError, ctypes.ArgumentError):  # another framework than we know
        return None
    return size.value if status == 0 else None
