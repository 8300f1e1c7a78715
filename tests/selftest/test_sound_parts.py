"""`moshi selftest --audio` against sound devices that behave, and against each that doesn't."""

import json
import signal

import pytest

from app.audio.devices.choice import Wish
from app.audio.devices.device import Device
from app.commands import doctor, selftest
from app.selftest.part import FAILED, NOT_HERE, OFF, OK
from app.selftest.remembered import recall
from app.selftest.sound.deaths import Death
from app.selftest.sound.devices import Devices, Permission
from app.selftest.sound.site import SoundSite
from app.selftest.sound.streams import MicrophoneHears, Openings, Stream
from app.selftest.sound.table import run_sound_parts, sound_parts
from moshi_mlx.errors import AudioError, UsageError
from tests.support.fakes.commands import parsed
from tests.support.fakes.doctor_machines import M2_AIR
from tests.support.fakes.sound_fakes import Card

MIC = Device("Ada's Mic", 0, 1, 0, 48_000.0, default_input=True, transport="usb")
SPEAKERS = Device("Ada's Speakers", 1, 0, 2, 48_000.0, default_output=True, transport="usb")
BOTH = Device("Card", 0, 1, 2, 48_000.0, True, True, transport="built-in")


@pytest.fixture
def card(tmp_path):
    return Card(tmp_path, [BOTH])


def site(card, permission=None):
    return SoundSite(Wish(), card.command, permission, lid_closed=lambda: False)


def looked_at(part, card, permission=None):
    told = []
    (found,) = run_sound_parts([part], site(card, permission), told.append, told.append)
    assert told == [part.name, found]
    return found


def test_devices_are_told_by_their_kinds_and_never_by_their_names(card):
    card.plug([MIC, SPEAKERS])
    found = looked_at(Devices(), card)
    assert found.status == OK
    assert found.notes[0] == "usb at 48000 Hz to usb at 48000 Hz"
    assert "Ada" not in str(found)
    card.plug([MIC])
    found = looked_at(Devices(), card)
    assert found.status == FAILED and "no sound output" in found.why


def test_openings_are_counted_and_timed(card):
    found = looked_at(Openings(times=2), card)
    assert found.status != FAILED and "until it calls" in found.notes[0]
    assert len(card.opened) == 2


@pytest.mark.parametrize(
    ("whims", "why"),
    [({"refuses": "Device unavailable"}, "Device unavailable"), ({"silent": True}, "never called")],
)
def test_a_device_that_refuses_or_never_calls_is_named(card, whims, why):
    card.whims(**whims)
    found = looked_at(Openings(times=1), card)
    assert found.status == FAILED and why in found.why
    assert "moshi devices" in found.fallback.advice


@pytest.mark.parametrize(
    ("dead", "what"), [(MIC, "the microphone's stream"), (SPEAKERS, "the loudspeaker's stream")]
)
def test_of_two_streams_the_one_that_never_calls_or_stops_is_named(card, dead, what):
    card.plug([MIC, SPEAKERS])
    card.whims(silent=[dead.name])
    found = looked_at(Openings(times=1), card)
    assert found.status == FAILED and found.why.endswith(f"{what} opens and is never called")
    card.whims(silent=[dead.name], silent_after=25)
    found = looked_at(Stream("two streams", split=True, seconds=30.0), card)
    assert found.status == FAILED and found.why.endswith(f"{what} stopped calling")


def test_the_rate_is_measured_and_a_wrong_one_told(card):
    card.whims(block_s=0.025)  # 480 samples in it: 19,200 Hz
    found = looked_at(Stream("two streams", split=True, seconds=1.0), card)
    assert found.status == OFF and found.worst.what == "rate"
    assert float(found.notes[0].split()[0]) == pytest.approx(19_200, rel=0.05)


def test_flags_of_every_callback_are_told(card):
    card.whims(flags=True)
    found = looked_at(Stream("one stream", split=False, seconds=0.5), card)
    assert found.status == OFF
    assert found.worst.what == "calls with a flag" and found.worst.off == pytest.approx(1, abs=0.2)


def test_two_clocks_have_no_stream_for_both(card):
    card.plug([MIC, SPEAKERS])
    found = looked_at(Stream("one stream", split=False), card)
    assert found.status == NOT_HERE and "clocks" in found.why


def test_a_device_that_goes_away_is_told(card):
    card.whims(stops_after=5)
    found = looked_at(Stream("one stream", split=False, seconds=30.0), card)
    assert found.status == FAILED and "went away" in found.why


def test_a_microphone_of_zeros_is_told(card):
    assert looked_at(MicrophoneHears(seconds=0.5), card).status == OK
    card.whims(zeros=True)
    found = looked_at(MicrophoneHears(seconds=0.5), card)
    assert found.status == OFF and found.worst.off == 1.0
    assert "muted" in found.fallback.advice


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_death_is_timed(card, number):
    found = looked_at(Death("sound process ends", number, times=1, ready_s=0.0), card)
    assert found.worst.what == "longest without sound" and 0 < found.worst.off < 9
    assert "heard again after" in found.notes[0]


@pytest.mark.parametrize(
    ("said", "status", "why"),
    [
        ("granted", OK, ""),
        ("denied", FAILED, "denied to this terminal"),
        ("not asked", NOT_HERE, "doesn't say"),
    ],
)
def test_permission_is_what_the_system_says(card, tmp_path, said, status, why):
    script = tmp_path / "permission.py"
    script.write_text(f"import time\nprint({said!r}, flush=True)\ntime.sleep(600)\n")
    patience_s = 1.0 if status == NOT_HERE else 60.0
    found = looked_at(Permission(patience_s), card, [str(script)])
    assert found.status == status and why in found.why


def test_where_nobody_is_asked_there_is_no_permission_to_look_at(card):
    assert looked_at(Permission(), card).status == NOT_HERE


def test_the_command_tells_keeps_and_reports(card, tmp_path, capsys):
    state = tmp_path / "state.json"
    args = parsed(selftest, "dev", "micro", "--audio", "--json")
    status = selftest.run(args, lambda *a, **k: M2_AIR, None, state, lambda wish: site(card))
    document = json.loads(capsys.readouterr().out)
    assert status == 0 and [part["name"] for part in document["parts"]] == [
        "devices",
        "microphone hears",
    ]
    assert not state.exists(), "some parts are not the whole"


def test_what_was_found_is_in_the_doctors_report(card, tmp_path):
    state = tmp_path / "state.json"
    parts = [Devices(), MicrophoneHears(seconds=0.3)]
    results = run_sound_parts(parts, site(card), print, print)
    selftest.keep(results, state)
    (line,) = doctor.sounds(recall(state))
    assert line.level == "ok" and "devices: built-in at 48000 Hz" in line.text
    card.whims(zeros=True)
    selftest.keep(run_sound_parts(parts, site(card), print, print), state)
    (line,) = doctor.sounds(recall(state))
    assert line.level == "warning" and "microphone hears" in line.text and "muted" in line.advice
    assert doctor.sounds(None) == []


def test_bad_options_are_one_line(card):
    for words, line in (
        (("--input", "Mic"), "are of --audio"),
        (("--audio", "helium"), "no part 'helium'; known: permission, devices"),
    ):
        with pytest.raises(UsageError, match=line):
            selftest.run(parsed(selftest, *words), sound_site=lambda wish: site(card))


def test_whoever_sits_there_is_asked_first():
    asked = []
    assert not selftest.agreed(lambda question: asked.append(question) or False, lambda: True)
    assert "Microphone" in asked[0]
    assert selftest.agreed(lambda question: 1 / 0, lambda: False), "a script has said so"


def test_every_part_has_a_name_of_its_own():
    names = [part.name for part in sound_parts()]
    assert len(set(names)) == len(names) == 8


def test_no_devices_at_all_is_one_line(card):
    card.plug([])
    found = looked_at(Devices(), card)
    assert found.status == FAILED and "no devices" in found.why
    with pytest.raises(AudioError), site(card).process():
        pass
