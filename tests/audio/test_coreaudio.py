"""What macOS is asked about its sound devices and its permission, against a stand-in in C.

The layout and the numbers are those of AudioHardwareBase.h, AudioHardware.h and clang's block ABI:
a property's address is three UInt32, and four-character codes are big-endian numbers.
"""

import ctypes
import sys
import threading

import pytest

from app.audio.devices import coreaudio
from app.audio.devices.coreaudio import Fingerprint, Hardware, hardware, with_hardware
from app.audio.devices.device import Device
from app.audio.permission import AvFoundation, main
from tests.support.fakes.c_stub import build, needs_compiler

PODS = "Anna’s AirPods"


@pytest.fixture(scope="module")
def mac(tmp_path_factory):
    return ctypes.CDLL(str(build("mac_stub.c", tmp_path_factory.mktemp("mac") / "libmac.so")))


def test_the_codes_are_apples_numbers():
    assert coreaudio.DEVICES == 0x64657623 and coreaudio.DEFAULT_INPUT == 0x64496E20
    assert coreaudio.DEFAULT_OUTPUT == 0x644F7574 and coreaudio.GLOBAL == 0x676C6F62
    assert coreaudio.TRANSPORT == 0x7472616E and coreaudio.RUN_LOOP == 0x726E6C70
    assert coreaudio.RATE == 0x6E737274 and coreaudio.SOURCE == 0x73737263
    assert coreaudio.UID == 0x75696420 and coreaudio.NAME == 0x6C6E616D
    assert ctypes.sizeof(coreaudio.Address) == 12


@needs_compiler
def test_the_fingerprint_of_a_macs_sound_settings_knows_the_rates_of_the_defaults(mac):
    expected = Fingerprint(71, 64, (64, 65, 71, 72, 98, 99), (24_000.0, 44_100.0))
    assert coreaudio.fingerprint(mac) == expected


@needs_compiler
def test_every_device_tells_its_transport_source_and_rate_and_no_string_is_left(mac):
    found = hardware(mac)
    assert found[0] == Hardware(PODS, True, False, "bluetooth", "AA-BB:input", None, 24_000.0)
    assert found[2].transport == "built-in" and found[2].uid == "BuiltInMicrophoneDevice"
    assert (found[4].source, found[4].rate_hz) == ("hdpn", 44_100.0)
    assert found[3].rate_hz is None and found[5].transport == "airplay"
    assert ctypes.c_int.in_dll(mac, "strings").value == 0


@needs_compiler
def test_portaudios_devices_get_what_coreaudio_says_though_one_is_missing_there(mac):
    """Both directions of a headset have one name; "Broken" isn't in PortAudio's list."""
    names = [(PODS, 1, 0), (PODS, 0, 2), ("MacBook Pro Microphone", 1, 0)]
    names += [("External Headphones", 0, 2), ("Other", 1, 0), ("Living Room", 0, 2)]
    devices = [Device(n, i, inputs, outputs, 1.0) for i, (n, inputs, outputs) in enumerate(names)]
    found = with_hardware(devices, hardware(mac))
    transports = ["bluetooth", "bluetooth", "built-in", "built-in", None, "airplay"]
    assert [device.transport for device in found] == transports
    assert [device.rate_hz for device in found] == [24e3, 48e3, 48e3, 44.1e3, 1.0, 44.1e3]
    assert found[2].is_internal_microphone and not found[0].is_internal_microphone
    assert found[1].is_headset and not found[3].is_headset
    assert with_hardware(devices, []) == devices, "anywhere else"


@needs_compiler
def test_changes_are_heard_on_a_thread_of_coreaudios_own(mac):
    coreaudio.own_thread(mac)
    assert ctypes.c_void_p.in_dll(mac, "run_loop").value is None


@needs_compiler
@pytest.mark.parametrize(("grants", "expected"), [(1, "granted"), (0, "denied")])
def test_the_system_is_asked_for_the_microphone_and_answers_through_a_block(mac, grants, expected):
    ctypes.c_int.in_dll(mac, "grants").value = grants
    ctypes.c_long.in_dll(mac, "status").value = 0
    system, answers, answered = AvFoundation(mac, mac), [], threading.Event()
    assert system.state() == "not asked"
    system.ask(lambda granted: (answers.append(granted), answered.set()))
    assert answered.wait(20) and answers == [bool(grants)]
    assert system.state() == expected


class Asking:
    """A system whose question stands for a while; what was asked is counted."""

    def __init__(self, looks):
        self.looks, self.asked = looks, 0

    def state(self):
        self.looks -= 1
        return "granted" if self.looks < 0 else "not asked"

    def ask(self):
        self.asked += 1


def test_an_answer_is_waited_for_as_long_as_somebody_needs_it(capsys):
    system = Asking(looks=1000)
    main(True, system, lambda: True, poll_s=0.0)
    assert capsys.readouterr().out.split("\n") == ["not asked", "granted", ""]
    assert system.asked == 1
    system, left = Asking(looks=1000), iter([True] * 10)
    main(True, system, lambda: next(left, False), poll_s=0.0)  # the talk has ended, however
    assert capsys.readouterr().out == "not asked\n" and system.looks == 1000 - 11
    main(False, Asking(looks=0), lambda: True)
    assert capsys.readouterr().out == "granted\n"


class NoSymbols:
    """A framework in which nothing is called as we know it: ctypes raises AttributeError."""


class Refusing:
    """CoreAudio that knows no object."""

    def AudioObjectGetPropertyData(self, *_):  # noqa: N802
        return 560947818  # "!obj"


@pytest.mark.parametrize("library", [Refusing(), NoSymbols()], ids=["refused", "no symbols"])
def test_whatever_goes_wrong_is_unknown_and_no_more(library):
    assert coreaudio.fingerprint(library) is None
    assert hardware(library) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="there it is")
def test_elsewhere_there_is_no_framework():
    assert coreaudio.fingerprint() is None and hardware() == []
