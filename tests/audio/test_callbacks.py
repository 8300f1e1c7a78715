"""What the callbacks make of blocks of any size, beside what plain Python says they should."""

import gc

import numpy as np
import pytest

from app.audio.stream import memory as m
from app.audio.stream.callbacks import REFERENCE_SAMPLES, Callbacks
from app.audio.stream.memory import SoundMemory
from app.audio.stream.playout import FADE_IN, TAIL, TAIL_SAMPLES
from moshi_mlx.clock import SAMPLE_RATE_HZ


class Card:
    """Callbacks on a virtual clock: each block takes its time."""

    def __init__(self):
        self.now_s, self.strokes = 0.0, 0
        self.memory = SoundMemory()
        self.callbacks = Callbacks(self.memory, self.ring, lambda: self.now_s)
        self.callbacks.playout.prepare()

    def ring(self, heard, when_s):
        assert (heard, when_s) == (self.memory.get(m.HEARD), self.now_s)
        self.strokes += 1

    def exchange(self, mic):
        self.now_s += len(mic) / SAMPLE_RATE_HZ
        out = np.full(len(mic), 9.0, np.float32)
        self.callbacks.exchange(mic, out)
        return out


def noise(rng, n):
    return rng.standard_normal(n).astype(np.float32)


def silent_at_times(rng, n):
    """Zeros, zeros of the other sign, one sample alone, noise."""
    kind, block = rng.integers(5), np.zeros(n, np.float32)
    if kind == 1:
        return -block
    if kind == 2:
        block[rng.integers(n)] = rng.choice([1e-30, np.nan])
    return noise(rng, n) if kind > 2 else block


@pytest.mark.parametrize("seed", range(3))
def test_a_microphone_block_stays_with_what_was_played_meanwhile(seed):
    rng, card = np.random.default_rng(seed), Card()
    mics, outs, heard, played, zeros = [], [], [], [], 0
    for _ in range(800):  # several times around the rings
        if rng.random() < 0.4:
            card.callbacks.playout.append(noise(rng, rng.integers(1, 2000)))
        mic = silent_at_times(rng, rng.integers(1, 1500))
        outs.append(card.exchange(mic))
        mics.append(mic)
        zeros = 0 if mic.any() else zeros + len(mic)
        assert card.memory.get(m.ZEROS) == zeros
        while (capture := card.callbacks.ring.take()) is not None:
            heard.append(capture.mic)
            played.append(capture.played)
            waits_s = card.callbacks.ring.available() / SAMPLE_RATE_HZ
            assert capture.captured_s == pytest.approx(card.now_s - waits_s)
    rest = card.callbacks.ring.rest()
    np.testing.assert_array_equal(np.concatenate([*heard, rest[0]]), np.concatenate(mics))
    np.testing.assert_array_equal(np.concatenate([*played, rest[1]]), np.concatenate(outs))
    assert card.memory.get(m.CALLBACKS) == card.strokes == 800
    assert card.memory.get(m.HEARD) == sum(map(len, mics))


class PlainPlayout:
    """Fades and gaps in a few lines, sample by sample where that is clearest."""

    def __init__(self):
        self.waiting, self.played = np.zeros(0), np.zeros(TAIL_SAMPLES)
        self.tail, self.gap = np.zeros(0), True
        self.begun, self.gaps, self.inserted = False, 0, 0

    def pull(self, n):
        out, self.waiting = self.waiting[:n].copy(), self.waiting[n:]
        if len(out) and self.gap:
            fade = min(len(out), len(FADE_IN))
            out[:fade] *= FADE_IN[:fade]
            over = min(len(out), len(self.tail))
            out[:over] += self.tail[:over]
            self.gap, self.begun, self.tail = False, True, np.zeros(0)
        missing = n - len(out)
        if missing and not self.gap:
            self.gap, self.gaps = True, self.gaps + 1
            self.tail = np.concatenate([self.played, out])[: -TAIL_SAMPLES - 1 : -1] * TAIL
        self.inserted += missing if self.begun else 0
        filled = np.concatenate([self.tail, np.zeros(missing)])[:missing]
        self.tail = self.tail[missing:]
        out = np.concatenate([out, filled])
        self.played = np.concatenate([self.played, out])[-TAIL_SAMPLES:]
        return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(480, 481), (480, 1500)])
def test_what_is_played_begins_and_breaks_off_softly(sizes, seed):
    rng, card, plain = np.random.default_rng(seed), Card(), PlainPlayout()
    for _ in range(600):
        if rng.random() < 0.3:
            pcm = noise(rng, rng.choice([1, 60, 480, 1920, 2500]))
            card.callbacks.playout.append(pcm)
            plain.waiting = np.concatenate([plain.waiting, pcm])
        out = card.exchange(noise(rng, rng.integers(*sizes)))
        np.testing.assert_allclose(out, plain.pull(len(out)), atol=1e-6)
    playout = card.callbacks.playout
    assert (playout.underruns, playout.inserted_samples) == (plain.gaps, plain.inserted)
    assert plain.gaps > 50


@pytest.mark.parametrize("longest", [700, 20_000])
def test_a_microphone_with_its_own_clock_is_given_what_was_played_in_order(longest):
    """Behind the loudspeaker by two blocks at most, and never by more than is kept of it."""
    rng, card = np.random.default_rng(1), Card()
    said, at = np.zeros(0, np.float32), 0
    for _ in range(300):
        blocks = np.empty((rng.integers(0, 3 + longest // 500), 480), np.float32)
        for out in blocks:
            card.callbacks.playout.append(noise(rng, 480))
            card.callbacks.render(out)
        said = np.concatenate([said, blocks.ravel()])
        n = int(rng.integers(1, longest))
        if len(said) - at > min(2 * n, REFERENCE_SAMPLES):
            at = len(said) - min(n, REFERENCE_SAMPLES)
        expected, at = said[at : at + n], min(len(said), at + n)
        card.callbacks.capture(noise(rng, n))
        _, played = card.callbacks.ring.rest()
        np.testing.assert_array_equal(played[: len(expected)], expected)
        assert len(played) == n and not played[len(expected) :].any()


def test_callbacks_leave_the_garbage_collector_nothing_to_do():
    """A collection would hold up the callback that happens to be in it."""
    rng, card = np.random.default_rng(1), Card()
    mic, out, runs = noise(rng, 480), np.empty(480, np.float32), []
    frame = noise(rng, 1920)
    gc.collect()
    gc.callbacks.append(lambda phase, info: runs.append(info))
    try:
        for n in range(5 * gc.get_threshold()[0]):
            if n % 4 == 0 and n % 100 < 60:
                card.callbacks.playout.append(frame)
            card.callbacks.exchange(mic, out)
    finally:
        gc.callbacks.pop()
    assert not runs
