"""Rates converted in pieces: a tone stays the tone it was, whatever the pieces."""

import numpy as np
import pytest

from app.audio.stream.callbacks import Callbacks
from app.audio.stream.memory import SoundMemory
from app.audio.stream.portaudio import Calls, StreamPlan
from app.audio.stream.resampler import Resampler

RATES = [(48_000, 24_000), (44_100, 24_000), (96_000, 24_000), (16_000, 24_000), (24_000, 44_100)]


def tone(rate_hz, seconds=1.0, hz=440.0):
    return np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def fitted(sound, rate_hz, hz=440.0):
    """Amplitude of a tone in `sound`, and what is left beside it (peak)."""
    t = 2 * np.pi * hz * np.arange(len(sound)) / rate_hz
    basis = np.stack([np.sin(t), np.cos(t)], 1)
    found, *_ = np.linalg.lstsq(basis, sound, rcond=None)
    return float(np.hypot(*found)), float(np.abs(sound - basis @ found).max())


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_a_tone_keeps_pitch_and_loudness_and_nothing_is_added(from_hz, to_hz):
    sound = tone(from_hz).astype(np.float32)
    made = Resampler(from_hz, to_hz).push(sound)
    assert len(made) == pytest.approx(to_hz, abs=1)
    amplitude, rest = fitted(made[500:-500], to_hz)
    assert amplitude == pytest.approx(1.0, abs=0.003) and rest < 0.002


def test_what_the_lower_rate_cannot_hold_is_taken_out():
    sound = tone(48_000, hz=14_000.0).astype(np.float32)  # would be heard at 10 kHz
    made = Resampler(48_000, 24_000).push(sound)
    assert np.abs(made[500:-500]).max() < 0.002


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_pieces_of_any_size_make_the_same(from_hz, to_hz):
    rng = np.random.default_rng(1)
    sound = rng.standard_normal(10_000).astype(np.float32)
    whole = Resampler(from_hz, to_hz).push(sound)
    at, pieces, converter = 0, [], Resampler(from_hz, to_hz)
    while at < len(sound):
        n = int(rng.integers(1, 700))
        pieces.append(converter.push(sound[at : at + n]))
        at += n
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_devices_of_other_rates_are_converted_on_both_sides():
    """44.1 kHz microphone on the second channel, 96 kHz loudspeaker, blocks of any size."""
    bell = []
    callbacks = Callbacks(SoundMemory(), lambda heard, when_s: bell.append(heard))
    callbacks.playout.prepare()
    calls = Calls(callbacks, StreamPlan(0, 1, True, channel=2, own_rates_hz=(44_100.0, 96_000.0)))
    assert (calls.input["samplerate"], calls.input["channels"]) == (44_100.0, 2)
    assert (calls.output["samplerate"], calls.output["blocksize"]) == (96_000.0, 0)
    rng, said, heard = np.random.default_rng(1), tone(24_000).astype(np.float32), []
    mic = np.stack([np.zeros(44_100), tone(44_100)], 1).astype(np.float32)
    for frame in said.reshape(-1, 1920 // 4):
        callbacks.playout.push(frame, 0.0)
    at, out = 0, []
    while at < 30_000:
        n = int(rng.integers(100, 900))
        block = np.empty(n, np.float32)
        calls.render(block.view(np.uint8), n, None, None)
        out.append(block)
        calls.capture(mic[at : at + n].tobytes(), n, None, None)
        at += n
        while (capture := callbacks.ring.take()) is not None:
            heard.append(capture.mic)
    assert fitted(np.concatenate(heard)[500:], 24_000)[0] == pytest.approx(1.0, abs=0.01)
    played = np.concatenate(out)[2000:20_000]
    assert fitted(played, 96_000)[0] == pytest.approx(1.0, abs=0.05)
