"""What macOS is asked about its sound devices, against a stand-in that reads memory as it would.

The layout and the numbers are those of AudioHardwareBase.h and AudioHardware.h: a property's
address is three UInt32, and four-character codes are big-endian numbers.
"""

import ctypes
import sys

import pytest

from app.audio import coreaudio

PODS, SPEAKERS, MICROPHONE = 71, 64, 99
SYSTEM = 1
MAC = {
    (SYSTEM, "dIn "): [PODS],
    (SYSTEM, "dOut"): [SPEAKERS],
    (SYSTEM, "dev#"): [PODS, SPEAKERS, MICROPHONE],
    (PODS, "tran"): [int.from_bytes(b"blue", "big")],
    (MICROPHONE, "tran"): [int.from_bytes(b"bltn", "big")],
}
NO_SUCH_PROPERTY = int.from_bytes(b"who?", "big")


def asked_for(address) -> tuple[str, str, int]:
    """Selector, scope and element, as C reads them."""
    held = ctypes.string_at(ctypes.addressof(address._obj), 12)
    raw = (ctypes.c_uint32 * 3).from_buffer_copy(held)
    selector, scope = (code.to_bytes(4, "big").decode() for code in raw[:2])
    return selector, scope, raw[2]


class FakeCoreAudio:
    """Answers as AudioObjectGetPropertyData does, out of (object, selector) -> UInt32s."""

    def __init__(self, answers, status=0):
        self.answers, self.status, self.set = answers, status, []

    def AudioObjectGetPropertyData(self, obj, address, qualifier_size, qualifier, size, data):  # noqa: N802
        selector, scope, element = asked_for(address)
        assert (scope, element) == ("glob", 0)
        assert (qualifier_size.value, qualifier) == (0, None)
        values = self.answers.get((obj.value, selector))
        if self.status or values is None:
            return self.status or NO_SUCH_PROPERTY
        room = size._obj
        fitting = values[: room.value // 4]
        ctypes.memmove(data, (ctypes.c_uint32 * len(fitting))(*fitting), 4 * len(fitting))
        room.value = 4 * len(fitting)
        return 0

    def AudioObjectSetPropertyData(self, obj, address, qualifier_size, qualifier, size, data):  # noqa: N802
        held = ctypes.string_at(ctypes.addressof(data._obj), size.value)
        self.set.append((obj.value, *asked_for(address), held))
        return self.status


class NoSymbols:
    """A framework in which nothing is called as we know it: ctypes raises AttributeError."""


def test_the_codes_are_apples_numbers():
    assert coreaudio.DEVICES == 0x64657623 and coreaudio.DEFAULT_INPUT == 0x64496E20
    assert coreaudio.DEFAULT_OUTPUT == 0x644F7574 and coreaudio.GLOBAL == 0x676C6F62
    assert coreaudio.TRANSPORT == 0x7472616E and coreaudio.RUN_LOOP == 0x726E6C70
    assert coreaudio.BLUETOOTH == (0x626C7565, 0x626C6561)
    assert ctypes.sizeof(coreaudio.Address) == 12


def test_the_fingerprint_of_a_macs_sound_settings():
    assert coreaudio.fingerprint(FakeCoreAudio(MAC)) == coreaudio.Fingerprint(
        PODS, SPEAKERS, (SPEAKERS, PODS, MICROPHONE)
    )
    without = FakeCoreAudio(MAC | {(SYSTEM, "dIn "): [0]})
    assert coreaudio.fingerprint(without) is not None, "a Mac mini without a microphone"
    assert coreaudio.default_input_is_bluetooth(without) is None


def test_the_default_microphones_transport_is_known():
    assert coreaudio.default_input_is_bluetooth(FakeCoreAudio(MAC)) is True
    low_energy = MAC | {(PODS, "tran"): [int.from_bytes(b"blea", "big")]}
    assert coreaudio.default_input_is_bluetooth(FakeCoreAudio(low_energy)) is True
    built_in = MAC | {(SYSTEM, "dIn "): [MICROPHONE]}
    assert coreaudio.default_input_is_bluetooth(FakeCoreAudio(built_in)) is False


@pytest.mark.parametrize(
    "library",
    [
        FakeCoreAudio(MAC, status=560947818),  # "!obj"
        FakeCoreAudio({}),
        FakeCoreAudio({key: [] for key in MAC}),
        NoSymbols(),
    ],
    ids=["refused", "unknown", "empty", "no symbols"],
)
def test_whatever_goes_wrong_is_unknown_and_no_more(library):
    assert coreaudio.fingerprint(library) is None
    assert coreaudio.default_input_is_bluetooth(library) is None


def test_a_device_without_a_transport_is_unknown():
    for transport in ([0], []):
        library = FakeCoreAudio(MAC | {(PODS, "tran"): transport})
        assert coreaudio.default_input_is_bluetooth(library) is None


def test_more_devices_than_there_is_room_for_are_cut_off():
    library = FakeCoreAudio(MAC | {(SYSTEM, "dev#"): list(range(2 * coreaudio.MOST_DEVICES))})
    found = coreaudio.fingerprint(library)
    assert found is not None and len(found.devices) == coreaudio.MOST_DEVICES


def test_changes_are_heard_on_a_thread_of_coreaudios_own():
    library = FakeCoreAudio(MAC)
    coreaudio.own_thread(library)
    null = bytes(ctypes.sizeof(ctypes.c_void_p))
    assert library.set == [(SYSTEM, "rnlp", "glob", 0, null)]
    coreaudio.own_thread(FakeCoreAudio(MAC, status=1))  # a no changes nothing


@pytest.mark.skipif(sys.platform == "darwin", reason="there it is")
def test_elsewhere_there_is_no_framework(monkeypatch):
    assert coreaudio.fingerprint() is None and coreaudio.default_input_is_bluetooth() is None
    coreaudio.framework.cache_clear()
    monkeypatch.setattr(coreaudio.sys, "platform", "darwin")  # a Mac whose framework is missing
    try:
        assert coreaudio.fingerprint() is None
    finally:
        coreaudio.framework.cache_clear()
