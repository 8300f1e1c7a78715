"""Which devices are chosen and why, and how the loss of one is noticed: pure, no sound card."""

import ast
import importlib.util
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.audio.devices.choice import Wish, choose
from app.audio.devices.device import Device
from app.audio.devices.watch import FLAGGED, DeviceWatch, FlagWatch, StarvationWatch
from app.audio.keep_awake import KeepAwake
from app.audio.stream.callbacks import BLOCK_SAMPLES
from app.audio.stream.duplex import Duplex
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.errors import AudioError

MIC = Device("MacBook Pro Microphone", 0, 1, 0, 48_000.0)
SPEAKERS = Device("MacBook Pro Speakers", 1, 0, 2, 48_000.0, default_output=True)
PODS_IN = Device("Anna’s AirPods", 2, 1, 0, 24_000.0, default_input=True)
PODS_OUT = Device("Anna’s AirPods", 3, 0, 2, 48_000.0)
USB = Device("Scarlett 2i2 USB", 4, 2, 2, 44_100.0)
SONY = Device("WH-1000XM4", 5, 1, 0, 16_000.0)
MAC = [MIC, SPEAKERS, PODS_IN, PODS_OUT, USB, SONY]


def test_a_bluetooth_microphone_gives_way_to_the_built_in_one_and_it_is_said_why():
    pair = choose(MAC)
    assert (pair.input, pair.output) == (MIC, SPEAKERS)
    assert "MacBook Pro Microphone instead of Anna’s AirPods" in pair.notes[0]
    assert "Bluetooth" in pair.notes[0] and "--input" in pair.notes[0]
    assert choose([SPEAKERS, PODS_IN]).input is PODS_IN, "where there is no other"
    asked = choose(MAC, Wish("airpods"))
    assert asked.input is PODS_IN and not asked.makeshift and pair.makeshift, (
        "where it was asked for"
    )
    assert "AirPods is a Bluetooth headset's, which sounds worse in both" in asked.notes[0]
    only_sony = [MIC, SPEAKERS, Device("WH-1000XM4", 5, 1, 0, 16_000.0, default_input=True)]
    assert choose(only_sony).input is MIC, "also when only the rate gives it away"
    called_by_a_person = replace(PODS_IN, name="Studio", rate_hz=48_000.0, transport="bluetooth")
    assert choose([MIC, SPEAKERS, called_by_a_person]).input is MIC, "or only the system does"
    wired = replace(PODS_IN, name="Headset (USB)", rate_hz=16_000.0, transport="usb")
    assert choose([MIC, SPEAKERS, wired]).input is wired and not choose([SPEAKERS, wired]).notes


@pytest.mark.parametrize(
    ("input_name", "output_name", "expected"),
    [
        ("scarlett", None, (USB, SPEAKERS)),
        ("0", "3", (MIC, PODS_OUT)),
        ("macbook", "USB", (MIC, USB)),
    ],
)
def test_devices_by_part_of_the_name_or_number(input_name, output_name, expected):
    pair = choose(MAC, Wish(input_name, output_name))
    assert (pair.input, pair.output) == expected and not pair.notes


@pytest.mark.parametrize(
    ("devices", "wanted", "message"),
    [
        (MAC, "Scarlet 2i2 USC", "did you mean 'Scarlett 2i2 USB'"),
        (
            MAC,
            "Zoom",
            "no sound input called 'Zoom'; there are: 0 MacBook Pro Microphone, 2 Anna’s",
        ),
        (MAC, "o", "fits several"),
        (MAC, "1", "no sound input called '1'"),  # a loudspeaker has no input
        ([SPEAKERS], None, "no sound input: connect a microphone"),
        ([], None, "no sound output: connect a speaker"),
    ],
)
def test_what_cannot_be_chosen_is_one_line_with_what_there_is(devices, wanted, message):
    with pytest.raises(AudioError) as caught:
        choose(devices, Wish(wanted))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_chosen_device_that_has_gone_is_replaced_and_it_is_said():
    pair = choose([MIC, SPEAKERS], Wish("Scarlett"), strict=False)
    assert pair.input is MIC and pair.notes == (
        "input: Scarlett is gone, so the system's default serves meanwhile",
    )


def test_devices_with_clocks_of_their_own_get_streams_of_their_own():
    assert not choose(MAC).split, "the Mac's own two share a clock"
    assert not choose(MAC, Wish("scarlett", "scarlett")).split
    assert choose(MAC, Wish("scarlett")).split and choose(MAC, Wish("0", "airpods")).split


@pytest.mark.parametrize(
    ("name", "transport", "headset"),
    [
        ("Anna’s AirPods Pro", "bluetooth", True),
        ("Galaxy Buds2", "bluetooth", True),
        ("Beats Pill", "bluetooth", False),  # a loudspeaker
        ("External Headphones", "built-in", False),  # what the jack is called, whatever is in it
        ("外部ヘッドフォン", "built-in", False),
        ("USB Headset", "usb", False),  # the echo canceller does no harm there
        ("Anna’s AirPods", None, False),  # nobody but macOS tells a transport
    ],
)
def test_only_what_is_surely_on_somebodys_ears_does_without_the_echo_canceller(
    name, transport, headset
):
    device = Device(name, 0, 0, 2, 48_000.0, default_output=True, transport=transport)
    assert device.is_headset is headset and choose([MIC, device]).headset is headset


def mac_device(device, transport, uid=None):
    return replace(device, transport=transport, uid=uid)


INTERNAL = mac_device(MIC, "built-in", "BuiltInMicrophoneDevice")
JACK = Device("Externes Mikrofon", 6, 1, 0, 48_000.0, transport="built-in", uid="BuiltInHeadphone")
OUT = mac_device(SPEAKERS, "built-in", "BuiltInSpeakerDevice")
PODS = mac_device(PODS_IN, "bluetooth")


def test_with_the_lid_closed_the_microphone_that_is_cut_off_is_not_chosen():
    pair = choose([INTERNAL, OUT, PODS], lid_closed=True)
    assert pair.input is PODS and not pair.notes, "the system's default, as it should be"
    default = replace(INTERNAL, default_input=True)
    pair = choose([default, OUT, replace(PODS, default_input=False)], lid_closed=True)
    assert pair.input.name == PODS.name and "lid is closed" in pair.notes[0]
    jack = replace(JACK, default_input=True)
    assert choose([INTERNAL, OUT, jack], lid_closed=True).input is jack, "the jack works"
    assert choose([default, OUT], lid_closed=True).input is default, "there is no other"
    assert choose([default, OUT, PODS], Wish("macbook"), lid_closed=True).input is default


def test_airplay_is_refused_with_its_reason_and_no_name_makes_it_built_in():
    receiver = Device("Anna’s MacBook Air", 7, 0, 2, 44_100.0, True, True, transport="airplay")
    others = [INTERNAL, replace(OUT, default_output=False)]
    pair = choose([*others, receiver])
    assert pair.output.name == OUT.name and "two seconds late" in pair.notes[0]
    assert not receiver.is_built_in
    for devices, wish in (
        ([*others, receiver], Wish(output="air")),
        ([INTERNAL, receiver], Wish()),
    ):
        with pytest.raises(AudioError, match=r"AirPlay plays two seconds late.*another output"):
            choose(devices, wish)


def test_a_channel_of_an_interface():
    assert choose(MAC, Wish("scarlett", channel=2)).input is USB
    with pytest.raises(AudioError, match="--input-channel 3: Scarlett 2i2 USB has 2"):
        choose(MAC, Wish("scarlett", channel=3))


def test_input_lost_in_every_callback_is_another_rate_and_opened_anew_once():
    watch = FlagWatch()
    told = [watch.tick(t / 10, 5 * t, 5 * t) for t in range(100)]
    assert told.index(FLAGGED) == 10, "after a second"
    assert told.count(FLAGGED) == 1 and watch.hopeless, "it is like that: opening doesn't help"
    calm = FlagWatch()
    assert not any(calm.tick(t / 10, 5 * t, t // 2) for t in range(600)), "a flag now and then"
    again = FlagWatch()
    assert FLAGGED in [again.tick(t / 10, 5 * t, 5 * t) for t in range(12)]
    again.reopened()
    assert FLAGGED in [again.tick(100 + t / 10, 5 * t, 5 * t) for t in range(12)]
    assert not again.hopeless, "much later it is another change"


def test_a_busy_machine_is_late_with_output_where_it_loses_input_another_rate_is_not():
    busy, other_rate = StarvationWatch(), StarvationWatch()
    assert all([busy.tick(5 * t, 4 * t) for t in range(100)][1:])
    assert not any(other_rate.tick(5 * t, t // 10) for t in range(100)), "an underrun now and then"
    assert [busy.tick(495, 396) for _ in range(12)][-1] is False, "over a second after the last"
    assert not StarvationWatch().tick(0, 0)


class Machine:
    """Ticks a watch as the device thread does, with callbacks at a given rate."""

    def __init__(self, rate_hz=24_000.0, jitter_s=0.01):
        self.now = self.wall = 0.0
        self.rate, self.jitter, self.rng = rate_hz, jitter_s, np.random.default_rng(1)
        self.samples, self.calls, self.runs, self.starved = 0.0, 0, True, False
        self.watch = DeviceWatch(0.0, 0.0)

    def seconds(self, seconds):
        """The first complaint and how long it took, or None."""
        start = self.now
        while self.now < start + seconds:
            self.now += 0.1
            self.wall += 0.1
            if self.runs:
                self.samples += 0.1 * self.rate
                self.calls = int(self.samples) // BLOCK_SAMPLES
            late_s = float(self.rng.uniform(0, self.jitter))
            arrived = (self.now + late_s, self.calls * BLOCK_SAMPLES)
            counts = (self.calls,)
            why = self.watch.tick(self.now, self.wall, counts, arrived, self.starved)
            if why is not None:
                return why, self.now - start
        return None


def test_a_good_device_is_left_alone_whatever_its_jitter():
    machine = Machine(jitter_s=0.03)
    assert machine.seconds(600) is None
    machine.samples -= 7_000  # 0.3 s of input lost: a hiccup, not another rate
    assert machine.seconds(60) is None


def test_silence_of_callbacks_is_a_loss_after_half_a_second():
    machine = Machine()
    assert machine.seconds(10) is None
    machine.runs = False
    why, took_s = machine.seconds(5)
    assert "stopped" in why and took_s < 0.8


@pytest.mark.parametrize(("rate", "within_s"), [(16_000, 1.7), (48_000, 1.7), (24_000 * 1.04, 3)])
def test_another_rate_is_a_loss(rate, within_s):
    machine = Machine()
    assert machine.seconds(10) is None
    machine.rate = rate
    why, took_s = machine.seconds(10)
    assert "kHz instead of 24" in why
    assert took_s < within_s


def test_what_a_starved_machine_loses_is_no_other_rate():
    machine = Machine()
    machine.rate, machine.starved = 0.9 * 24_000, True
    assert machine.seconds(60) is None
    machine.starved = False  # it isn't the machine then
    assert "kHz instead of 24" in machine.seconds(10)[0]


def test_a_slow_start_is_waited_for_but_not_forever():
    machine = Machine()
    machine.runs = False
    why, took_s = machine.seconds(10)
    assert "stopped" in why and 2.5 < took_s < 3.5


@pytest.mark.parametrize("clock", ["now", "wall"])
def test_sleep_is_seen_on_either_clock(clock):
    machine = Machine()
    assert machine.seconds(10) is None
    setattr(machine, clock, getattr(machine, clock) + 60)
    assert machine.seconds(0.1)[0] == "the computer has slept"


def test_a_mac_is_kept_awake_for_as_long_as_it_takes(tmp_path):
    fake = tmp_path / "caffeinate"
    fake.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/args\nexec sleep 60\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    keep, args = KeepAwake((str(fake),)), tmp_path / "args"
    for times in (1, 2):
        with keep:
            keep.start()  # twice is once
            deadline = time.monotonic() + 60
            while not args.exists() or len(args.read_text().splitlines()) < times:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert args.read_text() == f"-i -w {os.getpid()}\n" * 2
    with KeepAwake(None), KeepAwake(("/nowhere/caffeinate",)):
        pass  # elsewhere, and where it is missing


def test_a_microphone_with_its_own_clock_gets_what_was_played_never_more_than_two_blocks_late():
    duplex, out = Duplex(), np.empty(BLOCK_SAMPLES, np.float32)
    duplex.playout.push(np.arange(1, 50 * BLOCK_SAMPLES + 1, dtype=np.float32), 0.0)
    late = []
    for block in range(40):
        duplex.render(out)
        if block % 10 == 5:
            duplex.render(out)  # the speaker's clock is 10 % fast
        duplex.capture(np.zeros(BLOCK_SAMPLES, np.float32))
        if (capture := duplex.ring.take()) is not None:
            assert len(capture.played) == FRAME_SAMPLES
            late.append((out[-1] - capture.played[-1]) / BLOCK_SAMPLES)
    assert len(late) == 10 and max(late) <= 2 and min(late) >= 0
    assert duplex.callbacks == 40 and duplex.renders == 44


def test_stale_input_is_forgotten():
    duplex = Duplex()
    duplex.exchange(np.ones(FRAME_SAMPLES, np.float32), np.empty(FRAME_SAMPLES, np.float32))
    duplex.ring.flush()
    assert duplex.read(0.01) is None
    duplex.exchange(np.full(FRAME_SAMPLES, 2.0, np.float32), np.empty(FRAME_SAMPLES, np.float32))
    capture = duplex.read(0.01)
    assert capture is not None and capture.mic[0] == 2.0


def test_sounddevice_has_the_names_that_are_used_of_it():
    """Two are private, which bounds its version. Read from its source: no library needed."""
    spec = importlib.util.find_spec("sounddevice")
    assert spec is not None and spec.origin is not None
    there = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            there.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            there.add(node.id)
    assert there >= {"_initialize", "_terminate", "PortAudioError", "query_devices"}
    assert there >= {"RawStream", "RawInputStream", "RawOutputStream"}
    assert there >= {"CallbackFlags", "input_overflow", "input_underflow", "output_underflow"}
