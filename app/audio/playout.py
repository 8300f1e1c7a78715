"""Replies on their way to the speaker: played at once, with no more buffer than the jitter needs.

The session pushes frames, the audio callback pulls blocks of any size. A frame that comes too
late makes a gap, filled by fading out the last sound; everything after it then plays that much
later, which is how the buffer grows. The buffer shrinks when no frame of the last seconds needed
it: the callback skips samples, in a quiet place if there is one, with a cross-fade. The same two
moves absorb the drift between the clocks of a microphone and a loudspeaker.
"""

from collections import deque

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ

RING_SAMPLES = 4 * SAMPLE_RATE_HZ
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
    """One producer (`push`), one consumer (`pull`); each counter has a single writer."""

    def __init__(self) -> None:
        self._ring = np.zeros(RING_SAMPLES, np.float32)
        self._history = np.zeros(TAIL_SAMPLES, np.float32)  # the newest samples played
        self._tail = np.zeros(TAIL_SAMPLES, np.float32)  # what fills a gap
        self._tail_left = 0
        self._gap = True  # nothing is playing
        self._started = False
        self._skip_asked = 0  # samples, the producer's count
        self._skip_done = 0  # the consumer's
        self._skip_waited = 0
        self._written = 0
        self._read = 0
        self._flush_to = 0
        self._pulled_s = -1.0
        self._block = 480
        self._slack_s: deque[float] = deque(maxlen=MAX_WINDOW_FRAMES)
        self._window = WINDOW_FRAMES
        self._shrunk_at = -(10**9)  # frame number of the last skip
        self._frames = 0
        self.starved = 0  # gaps so far, written by the consumer
        self.inserted_samples = 0  # length of those gaps
        self.skipped_samples = 0

    def level(self) -> int:
        """Samples that wait to be played."""
        return max(0, self._written - max(self._read, self._flush_to))

    def push(self, pcm: np.ndarray, now_s: float) -> float:
        """Queue samples [n]; returns the seconds until the first of them is handed over."""
        level = self.level()
        wait_s, slack_s = self._schedule(level, now_s)
        start = self._written % RING_SAMPLES
        head = min(len(pcm), RING_SAMPLES - start)
        self._ring[start : start + head] = pcm[:head]
        self._ring[: len(pcm) - head] = pcm[head:]
        self._written += len(pcm)
        self._frames += 1
        self._adapt(slack_s, level)
        return wait_s

    def _schedule(self, level: int, now_s: float) -> tuple[float, float]:
        """When the next sample pushed will be pulled, and how much later it could have come."""
        block_s = self._block / SAMPLE_RATE_HZ
        next_pull_s = max(0.0, self._pulled_s + block_s - now_s) if self._pulled_s >= 0 else 0.0
        blocks, offset = divmod(level, self._block)
        wait_s = next_pull_s + blocks * block_s + offset / SAMPLE_RATE_HZ
        slack_s = self._pulled_s + (blocks + 1) * block_s - now_s
        return wait_s, slack_s

    def _adapt(self, slack_s: float, level: int) -> None:
        """Ask for a skip when every frame of the window came early enough to spare a block."""
        slacks = self._slack_s
        slacks.append(slack_s)
        if slack_s <= 0 and self._frames - self._shrunk_at < self._window:
            self._window = min(MAX_WINDOW_FRAMES, 2 * self._window)  # that skip was a mistake
            self._shrunk_at = -(10**9)
        if self._skip_asked != self._skip_done or self._frames % HURRY_FRAMES:
            return
        block_s = self._block / SAMPLE_RATE_HZ
        newest = list(slacks)
        spare_s = 0.0
        if len(newest) >= self._window:
            spare_s = min(newest[-self._window :]) - MARGIN_S
        elif len(newest) >= HURRY_FRAMES:
            least_s = min(newest[-HURRY_FRAMES:]) - MARGIN_S
            spare_s = least_s if least_s >= FRAME_SECONDS else 0.0
        blocks = int(spare_s / block_s)
        if level > MAX_LEVEL_SAMPLES:
            blocks = max(blocks, (level - FRAME_SAMPLES) // self._block)
        if blocks > 0:
            self._skip_asked += blocks * self._block
            self._shrunk_at = self._frames
            slacks.clear()

    def flush(self) -> None:
        """Producer's side: forget what waits; the next frame plays at once."""
        self._flush_to = self._written
        self._slack_s.clear()

    def pull(self, out: np.ndarray, now_s: float) -> None:
        """Audio callback: fill out [n], n <= 4 s; never waits."""
        n = len(out)
        self._block, self._pulled_s = n, now_s
        if self._flush_to > self._read:
            self._read = self._flush_to
            self._started = False
        level = self._written - self._read
        skip = self._due_skip(level, n)
        have = min(n, level)
        self._copy(self._read, out[:have])
        if skip:
            fade = min(FADE_SAMPLES, n)
            old = out[:fade] * FADE_OUT[:fade]
            self._copy(self._read + skip, out[:have])
            out[:fade] *= FADE_IN[:fade]
            out[:fade] += old
            self._read += skip
            self._skip_done += skip
            self.skipped_samples += skip
        self._read += have
        if have and self._gap:
            fade = min(FADE_SAMPLES, have)
            out[:fade] *= FADE_IN[:fade]
            if self._tail_left:
                self._add_tail(out[:have])
                self._tail_left = 0
            self._gap, self._started = False, True
        if have < n:
            self._fill_gap(out, have)
        self._remember(out)

    def _due_skip(self, level: int, n: int) -> int:
        """Samples to skip in this block: asked for, there, and quiet or waited for long enough."""
        skip = self._skip_asked - self._skip_done
        if skip <= 0:
            return 0
        if level < skip + n:  # no longer there to be skipped
            self._skip_done = self._skip_asked
            return 0
        self._skip_waited += 1
        start = self._read % RING_SAMPLES
        loud = float(np.abs(self._ring[start : start + skip]).max(initial=0.0)) > QUIET_PEAK
        if loud and self._skip_waited < PATIENCE_BLOCKS and level < MAX_LEVEL_SAMPLES:
            return 0
        self._skip_waited = 0
        return skip

    def _copy(self, position: int, out: np.ndarray) -> None:
        start = position % RING_SAMPLES
        head = min(len(out), RING_SAMPLES - start)
        out[:head] = self._ring[start : start + head]
        out[head:] = self._ring[: len(out) - head]

    def _fill_gap(self, out: np.ndarray, have: int) -> None:
        """Nothing to play: let the last sound, mirrored, die away; then silence."""
        if not self._gap:
            self.starved += 1
            self._gap = True
            self._tail[:] = self._last(out[:have])[::-1]
            self._tail *= TAIL
            self._tail_left = TAIL_SAMPLES
        if self._started:
            self.inserted_samples += len(out) - have
        out[have:] = 0.0
        if self._tail_left:
            self._add_tail(out[have:])

    def _add_tail(self, out: np.ndarray) -> None:
        n = min(len(out), self._tail_left)
        start = TAIL_SAMPLES - self._tail_left
        out[:n] += self._tail[start : start + n]
        self._tail_left -= n

    def _last(self, played: np.ndarray) -> np.ndarray:
        """The newest TAIL_SAMPLES played, `played` being this block's so far."""
        self._remember(played)
        return self._history

    def _remember(self, out: np.ndarray) -> None:
        n = len(out)
        if n >= TAIL_SAMPLES:
            self._history[:] = out[n - TAIL_SAMPLES :]
        elif n:
            self._history[:-n] = self._history[n:].copy()
            self._history[-n:] = out
