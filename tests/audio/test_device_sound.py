"""The devices of a talk with PortAudio replaced: what is opened again, what is told, what ends."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from app.audio.device_sound import DeviceSound
from app.audio.devices.choice import NoDeviceError
from app.audio.devices.device import Device
from app.audio.stream.port import EndOfInput
from moshi_mlx.errors import AudioError
from tests.support.fakes.sound_fakes import Card

FOR_EVER_S = 600.0  # longer than a test may take
MIC = Device("Studio Mic", 0, 1, 0, 48_000.0)
SPEAKERS = Device("Speakers", 1, 0, 2, 48_000.0, default_output=True)
OTHER = Device("Other Mic", 2, 1, 0, 48_000.0, default_input=True)


@pytest.fixture
def card(tmp_path):
    return Card(tmp_path, [MIC, SPEAKERS, OTHER])


@pytest.fixture
def sounds(card):
    """Makes DeviceSounds whose notices are kept, and ends them."""
    made = []

    def make(*names, **options):
        sound = DeviceSound(*names, command=card.command, **options)
        notices = []
        sound.subscribe(notices.append)
        made.append(sound)
        return sound, notices

    yield make
    for sound in made:
        sound.stop()


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def told(notices, part):
    return any(part in notice.message for notice in list(notices))


def test_a_device_chosen_by_its_number_stays_the_same_when_the_numbers_change(card, sounds):
    sound, notices = sounds("0", None)
    assert sound.state().chosen == ("Studio Mic", None)
    card.whims(stops_after=20)
    sound.start()
    card.whims()
    others = [Device("Other Mic", 0, 1, 0, 48_000.0, default_input=True), SPEAKERS]
    card.plug([*others, Device("Studio Mic", 2, 1, 0, 48_000.0)])
    wait_for(lambda: told(notices, "sound is back: Studio Mic and Speakers"))
    assert [opened[:2] for opened in card.opened] == 2 * [["Studio Mic", "Speakers"]]
    assert card.opened[-1][2]["input"] == 2
    assert told(notices, "the sound device has gone: opening sound again")


def test_a_device_that_cannot_be_opened_is_one_line_at_the_start(card, sounds):
    card.whims(refuses="Device unavailable")
    sound, _ = sounds()
    with pytest.raises(AudioError, match=r"Other Mic with Speakers can't be opened \(Device un"):
        sound.start()
    assert "\n" not in sound.problem()


def test_no_device_or_a_name_that_no_device_has_is_refused_at_once(card, sounds):
    with pytest.raises(AudioError, match="no sound input called 'Zoom'"):
        sounds("Zoom", None)
    card.plug([SPEAKERS])
    with pytest.raises(AudioError, match="no sound input: connect a microphone"):
        sounds()
    card.plug([])
    with pytest.raises(AudioError, match="no devices"):
        sounds()


def test_a_microphone_alone_is_heard_where_there_is_no_loudspeaker(card, sounds):
    card.plug([Device("Studio Mic", 3, 1, 0, 48_000.0)])
    with pytest.raises(NoDeviceError, match="no sound output: connect a speaker"):
        sounds()
    sound, notices = sounds(speaks=False)
    card.whims(stops_after=60)
    sound.start()
    wait_for(lambda: (heard := sound.read(0.1)) is not None and bool((heard.mic == 1e-3).any()))
    assert sound.state().input_name == "Studio Mic" and not sound.state().lost
    wait_for(lambda: told(notices, "opening sound again"))
    card.whims()
    wait_for(lambda: told(notices, "sound is back: Studio Mic"))
    assert not told(notices, "loudspeaker")
    assert {(one[0], one[1], one[2]["output"]) for one in card.opened} == {
        ("Studio Mic", None, None)
    }


def test_a_microphone_alone_that_gives_nothing_in_any_way_is_one_line(card, sounds):
    card.plug([Device("Studio Mic", 3, 1, 0, 48_000.0)])
    card.whims(silent=True)
    sound, _ = sounds(speaks=False)
    sound.start()
    wait_for(lambda: sound.problem() is not None)
    assert sound.problem().startswith("Studio Mic opens but gives no sound, whatever is tried")
    ways = [(one[2]["latency"] == "high", one[2]["own_rates_hz"]) for one in card.opened]
    assert ways == [(False, None), (True, None), (True, [48_000.0, 24_000])]


def test_an_opening_that_blocks_holds_up_nobody_and_is_told(card, sounds):
    card.whims(blocks_s=FOR_EVER_S)
    sound, notices = sounds()
    sound.start()  # and the talk begins without it
    wait_for(lambda: told(notices, "opening takes long"))
    assert sound.state().lost and sound.read(0.01) is None
    card.unblock()
    wait_for(lambda: sound.read(0.1) is not None and not sound.state().lost)
    assert sound.problem() is None


@pytest.mark.parametrize("within_s", [50.0, pytest.param(2.0, marks=pytest.mark.long)])
def test_the_talk_can_end_while_an_opening_blocks(card, sounds, within_s):
    """Long before the opening is given up, after a minute; at once on an idle machine."""
    card.whims(blocks_s=FOR_EVER_S)
    sound, _ = sounds()
    sound.start()
    start_s = time.monotonic()
    sound.stop()
    assert time.monotonic() - start_s < within_s
    assert not [t for t in threading.enumerate() if t.name == "moshi-devices"]


def test_what_cannot_be_watched_any_more_ends_the_talk_with_one_line(card, sounds):
    sound, _ = sounds()
    sound.subscribe(lambda notice: 1 / 0)
    sound.start()
    os.kill(sound.process_id, signal.SIGKILL)
    wait_for(lambda: sound.problem() is not None)
    assert "can't be watched" in sound.problem() and "\n" not in sound.problem()
    with pytest.raises(EndOfInput):
        while True:
            sound.read(5.0)


def through_a_death(card, sounds, said):
    """The microphone's samples and the speaker's while the sound process is killed."""
    sound, _ = sounds()
    sound.start()
    card.whims(blocks_s=0.05)
    frames = iter(said.reshape(-1, 1920))
    for _ in range(3):
        sound.play(next(frames))
    mic, played = [], []
    for heard in range(36):
        capture = sound.read(60.0)
        assert capture is not None
        mic.append(capture.mic)
        played.append(capture.played)
        if (frame := next(frames, None)) is not None:
            sound.play(frame)
        if heard == 10:
            os.kill(sound.process_id, signal.SIGKILL)
    return np.concatenate(mic), np.concatenate(played)


def test_what_waits_to_be_heard_and_played_goes_on_in_the_next_process(card, sounds):
    """The microphone hears the loudspeaker plus 0.001: each played sample comes back once.

    A hole of a second and more isn't filled: a busy machine has a few tries for a shorter one.
    """
    said = np.arange(1, 30 * 1920 + 1, dtype=np.float32)  # 2.4 s
    for _ in range(6):
        mic, played = through_a_death(card, sounds, said)
        follows = np.diff(played) == 1  # what is no fade
        whole = played[:-1][follows]
        assert len(np.unique(whole)) == len(whole), "nothing twice"
        silence = np.flatnonzero(mic == 0)  # while there was no microphone
        if len(silence):
            break
    missing = np.setdiff1d(said, whole)
    assert len(missing) <= 4 * 480, "nothing lost but a block in the dead process, and the fades"
    start, end = silence[0], silence[-1] + 1
    assert len(silence) == end - start and not played[start:end].any()
    for piece in (slice(0, start), slice(end, None)):  # the fake echo comes a block later
        echo = mic[piece][480:]
        np.testing.assert_array_equal(echo, played[piece][:-480] + np.float32(1e-3))


def test_a_killed_parent_leaves_no_process(card):
    code = f"""
import sys, time
sys.path.insert(0, ".")
from app.audio.device_sound import DeviceSound
sound = DeviceSound(command={card.command!r})
sound.start()
while sound._processes._spare is None:
    time.sleep(0.01)
print(sound.process_id, sound._processes._spare.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_pair_that_is_never_called_is_opened_in_other_ways_until_it_gives_sound(card, sounds):
    card.whims(silent=True)
    sound, notices = sounds()
    sound.start()
    wait_for(lambda: len(card.opened) == 2)
    card.whims()
    wait_for(lambda: told(notices, "sound is back"))
    ways = [(plan["split"], plan["latency"]) for *_, plan in card.opened]
    assert ways[0][1] != "high" and ways[-1] == (True, "high")
    assert told(notices, "Other Mic with Speakers opens but gives no sound")
    assert sum("sound is back" in notice.message for notice in notices) == 1, "only once it is"


def test_a_pair_that_refuses_our_rate_is_opened_at_its_own(card, sounds):
    card.whims(takes_only_own_rates=True)
    sound, _ = sounds()
    sound.start()
    wait_for(lambda: sound.read(0.5) is not None)
    assert card.opened[-1][2]["own_rates_hz"] == [48_000.0, 48_000.0]


@pytest.mark.parametrize("side", ["Other Mic", "Speakers"])
def test_one_of_two_streams_that_stops_in_mid_talk_is_noticed_alone(card, sounds, side):
    card.whims(silent=[side], silent_after=100)
    sound, notices = sounds()
    sound.start()
    wait_for(lambda: told(notices, "the sound device has stopped: opening sound again"))
    card.whims()
    wait_for(lambda: told(notices, "sound is back"))
    assert len(card.opened) == 2 and sound.problem() is None


def test_devices_that_break_off_again_and_again_are_opened_otherwise(card, sounds):
    card.whims(stops_after=20)
    sound, _ = sounds()
    sound.start()
    wait_for(lambda: len(card.opened) > 3)
    card.whims()
    latencies = [plan["latency"] for *_, plan in card.opened]
    assert latencies[:3] == ["low"] * 3 and latencies[3] == "high"
    wait_for(lambda: sound.read(0.5) is not None)
    assert sound.problem() is None


def test_a_way_of_opening_that_crashes_is_passed_over_in_a_talk(card, sounds):
    sound, notices = sounds()
    sound.start()
    card.whims(crashes=True)
    os.kill(sound.process_id, signal.SIGKILL)
    wait_for(lambda: len(card.opened) > 3)
    card.whims()
    wait_for(lambda: told(notices, "sound is back"))
    ways = [(plan["latency"], plan["own_rates_hz"]) for *_, plan in card.opened]
    own = ("high", [48_000.0, 48_000.0])
    assert ways[:4] == [("low", None), ("low", None), ("high", None), own]
    assert all(way == own for way in ways[4:])


MAC = [
    Device("Mac Mic", 0, 1, 0, 48_000.0, default_input=True, transport="built-in"),
    Device("Mac Speakers", 1, 0, 2, 48_000.0, default_output=True, transport="built-in"),
    Device("USB Mic", 2, 1, 0, 48_000.0, transport="usb"),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("devices", "dead", "pair"),
    [
        ([MIC, SPEAKERS, OTHER], OTHER, "Studio Mic and Speakers"),
        (MAC, MAC[0], "USB Mic and Mac Speakers"),
    ],
    ids=["two streams", "one stream"],
)
def test_a_microphone_without_sound_gives_way_to_another_and_none_at_all_ends_the_talk(
    card, sounds, devices, dead, pair
):
    card.plug(devices)
    card.whims(silent=[dead.name])
    sound, notices = sounds()
    sound.start()
    wait_for(lambda: told(notices, f"sound is back: {pair}"), 60)
    assert sound.read(5.0) is not None and sound.problem() is None
    card.whims(silent=True)
    sound.choose(None, None)
    wait_for(lambda: sound.problem() is not None, 120)
    assert "open but give no sound, whatever is tried" in sound.problem()
    with pytest.raises(EndOfInput):
        sound.read(5.0)


def test_input_lost_in_every_callback_opens_the_devices_anew(card, sounds):
    card.whims(flags=True)
    sound, notices = sounds()
    sound.start()
    wait_for(lambda: told(notices, "the microphone's rate has changed: opening sound again"))
    wait_for(lambda: told(notices, "loses samples all the time"))
    assert len(card.opened) == 2 and sound.state().input_xruns > 50


def test_a_machine_that_is_late_everywhere_is_told_so_and_keeps_its_microphone(card, sounds):
    card.whims(flags=True, late=True)
    sound, notices = sounds()
    sound.start()
    wait_for(lambda: told(notices, "this computer is too busy for its own sound"))
    wait_for(lambda: sound.state().input_xruns > 150)  # as many as opened it anew twice
    assert len(card.opened) == 1 and not told(notices, "microphone")


class Answers:
    """Stands for PermissionAsk."""

    def __init__(self, state):
        self.state = state

    def look(self):
        return self.state

    def close(self):
        pass


def test_the_talk_hears_nothing_until_the_systems_question_is_answered(card):
    permission = Answers("not asked")
    sound = DeviceSound(command=card.command, permission=permission)
    notices = []
    sound.subscribe(notices.append)
    try:
        sound.start()
        wait_for(lambda: told(notices, "macOS asks"))
        assert sound.read(0.5) is None
        permission.state = "granted"
        wait_for(lambda: sound.read(0.5) is not None)
        assert told(notices, "the microphone has been allowed: opening sound again")
    finally:
        sound.stop()
