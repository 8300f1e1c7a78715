"""The devices of a talk with PortAudio replaced: what is opened again, and what can't be."""

import threading
import time

import pytest

from app.audio import device_sound, portaudio
from app.audio.device import Device
from app.audio.port import EndOfInput

MIC = Device("Studio Mic", 0, 1, 0, 48_000.0)
SPEAKERS = Device("Speakers", 1, 0, 2, 48_000.0, default_output=True)
OTHER = Device("Other Mic", 2, 1, 0, 48_000.0, default_input=True)


class Card:
    """Stands for the module `audio`: a list of devices, and the streams that were opened."""

    def __init__(self):
        self.devices, self.opened, self.closes = [MIC, SPEAKERS, OTHER], [], True

    def scan(self, again=False):
        return self.devices

    def stream(self, duplex, source, sink, split, ended):
        self.opened.append((source.name, sink.name, ended))
        return self

    def close(self):
        return self.closes


@pytest.fixture
def card(monkeypatch):
    fake = Card()
    monkeypatch.setattr(portaudio, "scan", fake.scan)
    monkeypatch.setattr(portaudio, "Stream", fake.stream)
    monkeypatch.setattr(portaudio, "start_afresh", lambda: False)
    return fake


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_device_chosen_by_its_number_stays_the_same_when_the_numbers_change(card):
    sound = device_sound.DeviceSound("0", None)
    assert sound.state().chosen == ("Studio Mic", None)
    sound.start()
    try:
        card.devices = [Device("Other Mic", 0, 1, 0, 48_000.0, default_input=True), SPEAKERS]
        card.devices.append(Device("Studio Mic", 2, 1, 0, 48_000.0))
        card.opened[-1][2]()  # PortAudio says that the stream has ended
        wait_for(lambda: len(card.opened) == 2)
        assert card.opened[-1][:2] == ("Studio Mic", "Speakers")
    finally:
        sound.stop()


def test_a_sound_system_that_hangs_ends_the_talk_with_one_line(card):
    sound = device_sound.DeviceSound()
    sound.start()
    assert sound.problem() is None
    card.closes = False
    card.opened[-1][2]()
    wait_for(lambda: sound.problem() is not None)
    assert "start moshi again" in sound.problem() and "\n" not in sound.problem()
    with pytest.raises(EndOfInput):
        sound.read(5.0)
    sound.stop()
    assert not [t for t in threading.enumerate() if t.name == "moshi-devices"]


class PaStream:
    """One of sounddevice's, which ends with its callback, or hangs when it is aborted."""

    def __init__(self, hangs=None):
        self.hangs, self.calls, self.ends_at = hangs, [], time.monotonic() + 0.05

    @property
    def active(self):
        return self.hangs is not None or time.monotonic() < self.ends_at

    def abort(self, ignore_errors):
        self.calls.append(("abort", self.active))
        if self.hangs is not None:
            self.hangs.wait(30)

    def close(self, ignore_errors):
        self.calls.append("close")


def closing(stream):
    one = portaudio.Stream.__new__(portaudio.Stream)
    one._streams, one._error, one._ending = [stream], OSError, False
    return one


def test_a_stream_ends_with_its_own_callback_before_it_is_closed():
    stream = PaStream()
    one = closing(stream)
    assert one.close() and one._ending, "its next callback is its last"
    assert stream.calls == [("abort", False), "close"]
    assert one.close(), "and twice is no harm"


def test_closing_a_stream_that_hangs_takes_no_longer_than_so_long(monkeypatch):
    monkeypatch.setattr(portaudio, "CLOSE_S", 0.5)
    release = threading.Event()
    start = time.monotonic()
    assert closing(PaStream(release)).close() is False
    assert time.monotonic() - start < 5
    release.set()
