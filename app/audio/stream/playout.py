"""Replies on their way to the speaker: played at once, with no more buffer than the jitter needs.

The session pushes frames, the audio callback pulls blocks of any size. A frame that comes too
late is an underrun, filled by fading out the last sound; everything after it then plays that much
later, which is how the buffer grows. The buffer shrinks when no frame of the last seconds needed
it: the callback skips samples, in a quiet place if there is one, with a cross-fade. The same two
moves absorb the drift between the clocks of a microphone and a loudspeaker.
"""

from collections import deque

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ

from . import memory as m
from .memory import (
    RING_SAMPLES,
    SILENCE,
    Floats,
    Samples,
    SoundMemory,
    fence,
    read_ring,
    write_ring,
)

FADE_SAMPLES = 120  # 5 ms
TAIL_SAMPLES = 480  # how long a sound that breaks off is faded out
MARGIN_S = 0.002  # slack that is never given away
WINDOW_FRAMES = 100  # 8 s of frames must have had slack before the buffer shrinks
MAX_WINDOW_FRAMES = 1600  # after shrinking proved wrong, up to 128 s
HURRY_FRAMES = 12  # 1 s is enough when a whole frame or more is to spare
MAX_LEVEL_SAMPLES = 6 * FRAME_SAMPLES  # more than this is never kept waiting
QUIET_PEAK = 0.01  # -40 dBFS
PATIENCE_BLOCKS = 100  # blocks that a skip waits for a quiet place

FADE_OUT = np.linspace(1.0, 0.0, FADE_SAMPLES, dtype=np.float32)
FADE_IN = FADE_OUT[::-1].copy()
TAIL = np.linspace(1.0, 0.0, TAIL_SAMPLES, dtype=np.float32)


class Playout:
    """One producer (`push`), one consumer (`pull`), maybe each in a process of its own.

    What both need lies in the memory they share, each number with a single writer.
    """

    def __init__(self, memory: SoundMemory | None = None) -> None:
        self._memory = memory or SoundMemory()
        if memory is None:
            self.prepare()
        self._history = memoryview(bytearray(4 * TAIL_SAMPLES)).cast("f")  # the newest played
        self._tail = np.zeros(TAIL_SAMPLES, np.float32)  # what fills a gap
        self._tail_left = 0
        self._gap = True  # nothing is playing
        self._started = False
        self._skip_waited = 0
        self._slack_s: deque[float] = deque(maxlen=MAX_WINDOW_FRAMES)
        self._window = WINDOW_FRAMES
        self._shrunk_at = -(10**9)  # frame number of the last skip
        self._frames = 0

    def prepare(self) -> None:
        """Once for a new memory, before anybody pulls."""
        self._memory.put_s(m.PULLED_S, -1.0)
        self._memory.put(m.BLOCK, 480)

    @property
    def underruns(self) -> int:
        """Gaps so far."""
        return self._memory.get(m.UNDERRUNS)

    @property
    def inserted_samples(self) -> int:
        """Length of those gaps."""
        return self._memory.get(m.INSERTED)

    @property
    def skipped_samples(self) -> int:
        return self._memory.get(m.SKIPPED)

    def level(self) -> int:
        """Samples that wait to be played."""
        get = self._memory.get
        return max(0, get(m.PLAY_WRITTEN) - max(get(m.PLAY_READ), get(m.FLUSH_TO)))

    def waiting(self) -> np.ndarray:
        """A copy of those samples, once nobody pulls any more: float32 [n]."""
        get, n = self._memory.get, self.level()
        out = np.empty(n, np.float32)
        read_ring(self._memory.play, get(m.PLAY_WRITTEN) - n, out)
        return out

    def push(self, pcm: np.ndarray, now_s: float) -> float:
        """Queue samples [n]; returns the seconds until the first of them is handed over."""
        level = self.level()
        wait_s, slack_s = self._schedule(level, now_s)
        self.append(pcm)
        self._frames += 1
        self._adapt(slack_s, level)
        return wait_s

    def append(self, pcm: np.ndarray) -> None:
        """Queue samples of a sound that is made ahead of time: none is skipped to be in time."""
        memory = self._memory
        written = memory.get(m.PLAY_WRITTEN)
        write_ring(memory.play, written, np.asarray(pcm, np.float32))
        fence()
        memory.put(m.PLAY_WRITTEN, written + len(pcm))

    def _schedule(self, level: int, now_s: float) -> tuple[float, float]:
        """When the next sample pushed will be pulled, and how much later it could have come."""
        block, pulled_s = self._memory.get(m.BLOCK), self._memory.get_s(m.PULLED_S)
        block_s = block / SAMPLE_RATE_HZ
        next_pull_s = max(0.0, pulled_s + block_s - now_s) if pulled_s >= 0 else 0.0
        blocks, offset = divmod(level, block)
        wait_s = next_pull_s + blocks * block_s + offset / SAMPLE_RATE_HZ
        slack_s = pulled_s + (blocks + 1) * block_s - now_s
        return wait_s, slack_s

    def _adapt(self, slack_s: float, level: int) -> None:
        """Ask for a skip when every frame of the window came early enough to spare a block."""
        slacks = self._slack_s
        slacks.append(slack_s)
        if slack_s <= 0 and self._frames - self._shrunk_at < self._window:
            self._window = min(MAX_WINDOW_FRAMES, 2 * self._window)  # that skip was a mistake
            self._shrunk_at = -(10**9)
        memory = self._memory
        asked, block = memory.get(m.SKIP_ASKED), memory.get(m.BLOCK)
        if asked != memory.get(m.SKIP_DONE) or self._frames % HURRY_FRAMES:
            return
        block_s = block / SAMPLE_RATE_HZ
        newest = list(slacks)
        spare_s = 0.0
        if len(newest) >= self._window:
            spare_s = min(newest[-self._window :]) - MARGIN_S
        elif len(newest) >= HURRY_FRAMES:
            least_s = min(newest[-HURRY_FRAMES:]) - MARGIN_S
            spare_s = least_s if least_s >= FRAME_SECONDS else 0.0
        blocks = int(spare_s / block_s)
        if level > MAX_LEVEL_SAMPLES:
            blocks = max(blocks, (level - FRAME_SAMPLES) // block)
        if blocks > 0:
            memory.put(m.SKIP_ASKED, asked + blocks * block)
            self._shrunk_at = self._frames
            slacks.clear()

    def flush(self) -> None:
        """Producer's side: forget what waits; the next frame plays at once."""
        self._memory.put(m.FLUSH_TO, self._memory.get(m.PLAY_WRITTEN))
        self._slack_s.clear()

    def pull(self, out: Samples, now_s: float) -> None:
        """Audio callback: fill out [n], n <= 4 s; never waits. No numpy but in fades."""
        out = memoryview(out)
        n, memory = len(out), self._memory
        integers = memory.integers
        integers[m.BLOCK] = n
        memory.floats[m.PULLED_S] = now_s
        written, read = integers[m.PLAY_WRITTEN], integers[m.PLAY_READ]
        fence()
        flush_to = integers[m.FLUSH_TO]
        if flush_to > read:
            read, written = flush_to, max(written, flush_to)
            self._started = False
        level = written - read
        skip = 0
        if integers[m.SKIP_ASKED] > integers[m.SKIP_DONE]:
            skip = self._due_skip(read, level, n)
        have = min(n, level)
        read_ring(memory.play, read, out[:have])
        if skip:
            self._skip(out, read, skip)
            read += skip
        integers[m.PLAY_READ] = read + have
        if have and self._gap:
            self._begin(out[:have])
        if have < n:
            self._fill_gap(out, have)
        self._remember(out)

    def _due_skip(self, read: int, level: int, n: int) -> int:
        """Samples to skip in this block: asked for, there, and quiet or waited for long enough."""
        integers = self._memory.integers
        asked = integers[m.SKIP_ASKED]
        skip = asked - integers[m.SKIP_DONE]
        if level < skip + n:  # no longer there to be skipped
            integers[m.SKIP_DONE] = asked
            return 0
        self._skip_waited += 1
        if (
            self._skip_waited < PATIENCE_BLOCKS
            and level < MAX_LEVEL_SAMPLES
            and self._is_loud(read % RING_SAMPLES, skip)
        ):
            return 0
        self._skip_waited = 0
        return skip

    def _is_loud(self, start: int, n: int) -> bool:
        samples = as_array(self._memory.play[start : start + n])
        # what numpy's max takes is mostly its set-up, which these two don't have
        top, bottom = float(samples[samples.argmax()]), float(samples[samples.argmin()])
        return top > QUIET_PEAK or bottom < -QUIET_PEAK

    def _skip(self, out: Floats, read: int, skip: int) -> None:
        """From what out [n] holds to what comes `skip` samples later, which is all there."""
        faded = as_array(out)[:FADE_SAMPLES]
        old = faded * FADE_OUT[: len(faded)]
        read_ring(self._memory.play, read + skip, out)
        faded *= FADE_IN[: len(faded)]
        faded += old
        integers = self._memory.integers
        integers[m.SKIP_DONE] += skip
        integers[m.SKIPPED] += skip

    def _begin(self, sound: Floats) -> None:
        """The first samples after a gap."""
        faded = as_array(sound)[:FADE_SAMPLES]
        faded *= FADE_IN[: len(faded)]
        if self._tail_left:
            self._add_tail(sound)
            self._tail_left = 0
        self._gap, self._started = False, True

    def _fill_gap(self, out: Floats, have: int) -> None:
        """Nothing to play: let the last sound, mirrored, die away; then silence."""
        integers, missing = self._memory.integers, len(out) - have
        if not self._gap:
            integers[m.UNDERRUNS] += 1
            self._gap = True
            self._remember(out[:have])
            np.multiply(as_array(self._history)[::-1], TAIL, out=self._tail)
            self._tail_left = TAIL_SAMPLES
        if self._started:
            integers[m.INSERTED] += missing
        out[have:] = SILENCE[:missing]
        if self._tail_left:
            self._add_tail(out[have:])

    def _add_tail(self, out: Floats) -> None:
        n = min(len(out), self._tail_left)
        start = TAIL_SAMPLES - self._tail_left
        sound = as_array(out)[:n]
        sound += self._tail[start : start + n]
        self._tail_left -= n

    def _remember(self, out: Floats) -> None:
        history, n = self._history, len(out)
        if n >= TAIL_SAMPLES:
            history[:] = out[n - TAIL_SAMPLES :]
        elif n:
            history[:-n] = history[n:]
            history[-n:] = out


def as_array(samples: Samples) -> np.ndarray:
    """The same samples [n], n >= 1, to be computed with."""
    return np.frombuffer(samples, np.float32)
