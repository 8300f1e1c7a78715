"""Devices that are dead, one alone or both, on a virtual clock: noticed soon, gone around, told."""

from dataclasses import replace

import numpy as np
import pytest

from app.audio.attempts import MOST_BREAKS, Attempts
from app.audio.devices.choice import choose
from app.audio.devices.device import Device
from app.audio.devices.watch import FIRST_CALLBACK_S, STOPPED
from app.audio.microphone_watch import DEAF, LOSSY, MicrophoneWatch
from app.audio.pair_watch import PairWatch
from app.audio.stream.callbacks import BLOCK_SAMPLES, Callbacks
from app.audio.stream.memory import SoundMemory
from moshi_mlx.errors import AudioError

BLOCK_S = 0.02
TICK_BLOCKS = 5
MIC = Device("Mac Mic", 0, 1, 0, 48e3, True, transport="built-in")
SPEAKERS = Device("Mac Speakers", 1, 0, 2, 48e3, default_output=True, transport="built-in")
USB_MIC = Device("USB Mic", 2, 1, 0, 48e3, transport="usb")
USB_SPEAKERS = Device("USB Speakers", 3, 0, 2, 48e3, transport="usb")
ONE_STREAM = [MIC, SPEAKERS, USB_MIC, USB_SPEAKERS]
TWO_STREAMS = [replace(device, transport="usb") for device in ONE_STREAM]
BOTH = (MIC.name, SPEAKERS.name)


class Talk:
    """Opens, calls and judges as the device thread and PortAudio do on a Mac, on a virtual clock.

    `works(name, plan, since)`: whether a device is called so many seconds after its opening;
    `loses(plan)`: whether the microphone loses samples. They may look at `now`.
    """

    def __init__(self, devices, works, loses=lambda plan: False):
        self.devices, self.works, self.loses = devices, works, loses
        self.attempts, self.now = Attempts(), 0.0
        self.microphone = MicrophoneWatch(None, lambda: False)
        self.opened = []  # (pair, plan)
        self.noticed = []  # (when, why)
        self.ended = None

    def seconds(self, seconds):
        end_s = self.now + seconds
        try:
            while self.now < end_s:
                self._open()
                if (why := self._one_opening(end_s)) is not None:
                    self.noticed.append((self.now, why))
        except AudioError as error:
            self.noticed.append((self.now, str(error)))
            self.ended = str(error)
        return self

    def _open(self):
        devices = self.attempts.living(self.devices)
        pair = choose(devices)
        number, plan = self.attempts.ways(pair, 1)[0]
        self.attempts.opened(pair, number)
        self.opened.append((pair, plan))
        self.watch = PairWatch(
            pair, plan, devices, True, self.attempts, self.microphone, self.now, self.now
        )

    def _one_opening(self, end_s):
        (pair, plan), opened_s, blocks = self.opened[-1], self.now, 0
        memory, out = SoundMemory(), np.zeros(BLOCK_SAMPLES, np.float32)
        callbacks = Callbacks(memory, lambda heard, when_s: None, lambda: self.now)
        callbacks.playout.prepare()
        while self.now < end_s:
            self.now, blocks = self.now + BLOCK_S, blocks + 1
            hears, plays = (
                self.works(device.name, plan, self.now - opened_s)
                for device in (pair.input, pair.output)
            )
            mic = np.full(BLOCK_SAMPLES, 0.1 if hears else 0.0, np.float32)
            if plan.split:
                if plays:
                    callbacks.render(out)
                if hears:
                    callbacks.capture(mic, self.loses(plan))
            elif plays:  # by the speaker's clock; what isn't heard is zeros and a flag
                callbacks.exchange(mic, out, not hears or self.loses(plan))
            if blocks % TICK_BLOCKS == 0:
                why = self.watch.tick(self.now, self.now, memory, lambda notice: None)
                if why is not None:
                    return why
        return None

    @property
    def names(self):
        """Of the devices that are open now."""
        pair, _ = self.opened[-1]
        return pair.input.name, pair.output.name


@pytest.mark.parametrize("devices", [ONE_STREAM, TWO_STREAMS], ids=["one stream", "two streams"])
@pytest.mark.parametrize("from_s", [0.0, 10.0], ids=["from the start", "in mid-talk"])
@pytest.mark.parametrize("dead", [(MIC.name,), (SPEAKERS.name,), BOTH], ids=" and ".join)
def test_what_is_dead_is_noticed_soon_and_others_take_its_place_alone(devices, from_s, dead):
    talk = Talk(devices, lambda name, plan, since: name not in dead or talk.now < from_s)
    talk.seconds(60)
    (first_s, why), took_over_s = talk.noticed[0], talk.noticed[-1][0] - from_s
    if devices is ONE_STREAM and dead == (MIC.name,):
        limit_s, expected = 1.2, DEAF
    elif from_s:
        limit_s, expected = 0.7, STOPPED
    else:
        limit_s, expected = FIRST_CALLBACK_S + 0.2, "opens but gives no sound"
    assert expected in why and from_s < first_s < from_s + limit_s
    others = {MIC.name: USB_MIC.name, SPEAKERS.name: USB_SPEAKERS.name}
    assert talk.names == tuple(others[name] if name in dead else name for name in BOTH)
    assert took_over_s < 16 and talk.ended is None, "every way was tried once, and then no more"


@pytest.mark.parametrize("devices", [ONE_STREAM, TWO_STREAMS], ids=["one stream", "two streams"])
@pytest.mark.parametrize("from_s", [0.0, 10.0])
@pytest.mark.parametrize("dead", [(MIC.name,), (SPEAKERS.name,), BOTH], ids=" and ".join)
def test_where_there_is_no_other_the_talk_ends_with_one_line(devices, from_s, dead):
    talk = Talk(devices[:2], lambda name, plan, since: name not in dead or talk.now < from_s)
    talk.seconds(60)
    assert talk.ended is not None and talk.now < from_s + 16
    assert "Mac Mic and Mac Speakers open but give no sound, whatever is tried" in talk.ended
    ways = [(plan.split, plan.latency == "high", plan.own_rates_hz) for _, plan in talk.opened]
    assert ways[-2:] == [(True, True, None), (True, True, (48e3, 48e3))]
    assert any(plan.split for _, plan in talk.opened)


def test_a_device_that_breaks_off_again_and_again_is_no_device():
    """It is called for two seconds after each opening: "sound is back", for ever."""
    talk = Talk(ONE_STREAM, lambda name, plan, since: name != SPEAKERS.name or since < 2)
    talk.seconds(120)
    assert talk.names == (MIC.name, USB_SPEAKERS.name) and talk.ended is None
    assert [why for _, why in talk.noticed] == [STOPPED] * 4 * MOST_BREAKS, "in each of four ways"
    alone = Talk(ONE_STREAM[:2], talk.works).seconds(120)
    assert "whatever is tried" in alone.ended


def test_one_that_breaks_off_twice_and_then_holds_stays_as_it_is():
    talk = Talk(ONE_STREAM, lambda name, plan, since: len(talk.opened) > 2 or since < 1)
    talk.seconds(120)
    assert len(talk.opened) == 3 and not talk.opened[-1][1].split


def test_one_that_stops_once_in_a_while_is_opened_as_before_each_time():
    talk = Talk(ONE_STREAM, lambda name, plan, since: since < 30)
    talk.seconds(600)
    assert len(talk.opened) > 15
    assert {(pair.names, plan.split) for pair, plan in talk.opened} == {
        ("Mac Mic with Mac Speakers", False)
    }


def test_a_microphone_that_loses_samples_beside_the_speaker_gets_a_stream_of_its_own():
    talk = Talk(ONE_STREAM, lambda name, plan, since: True, lambda plan: not plan.split)
    talk.seconds(120)
    assert [why for _, why in talk.noticed][1:] == [LOSSY], "after it was opened anew once"
    assert talk.names == BOTH and talk.opened[-1][1].split


@pytest.mark.parametrize("end", ["gone", "crashed"])
def test_streams_that_end_by_themselves_soon_after_every_opening_are_opened_otherwise(end):
    talk = Talk(TWO_STREAMS, lambda name, plan, since: True)
    for _ in range(3 * MOST_BREAKS):
        talk._open()
        talk.now += 0.5
        if end == "gone":
            talk.watch.gone((True, False), talk.now)
        else:
            talk.watch.crashed(talk.now)
    latencies = [plan.latency == "high" for _, plan in talk.opened]
    assert latencies == [False] * MOST_BREAKS + [True] * 2 * MOST_BREAKS
    talk._open()
    expected = (USB_MIC.name, SPEAKERS.name if end == "gone" else USB_SPEAKERS.name)
    assert talk.names == expected, "only what has ended is left out"


def test_a_process_that_is_killed_now_and_then_is_nobodys_fault():
    talk = Talk(ONE_STREAM, lambda name, plan, since: True)
    for _ in range(50):
        talk._open()
        talk.now += 1.5
        talk.watch.crashed(talk.now)
    assert not any(plan.split for _, plan in talk.opened)


def test_what_was_unplugged_begins_anew_and_so_does_what_is_chosen():
    dead = Talk(TWO_STREAMS, lambda name, plan, since: name != MIC.name).seconds(30)
    assert dead.names[0] == USB_MIC.name
    mics = lambda: [d.name for d in dead.attempts.living(TWO_STREAMS) if d.inputs]  # noqa: E731
    assert mics() == [USB_MIC.name]
    dead.attempts.living(TWO_STREAMS[1:])  # a scan without it
    assert mics() == [MIC.name, USB_MIC.name]
    again = Talk(TWO_STREAMS, dead.works).seconds(30)
    again.attempts.forget_the_dead()
    pair = choose(again.attempts.living(TWO_STREAMS))
    assert pair.input.name == MIC.name and again.attempts.ways(pair, 1)[0][0] == 0


def test_a_way_that_crashes_while_it_is_opened_is_passed_over():
    attempts, pair = Attempts(), choose(ONE_STREAM)
    firsts = []
    for _ in range(6):
        number, _ = attempts.ways(pair, 1)[0]
        firsts.append(number)
        attempts.crashed(pair, number)
    assert firsts == [0, 1, 2, 3, 3, 3]
    attempts.refused(pair)
    assert attempts.ways(pair, 1)[0][0] == 0
