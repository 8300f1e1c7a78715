"""Both directions of sound devices: what the audio callbacks call, and a Port for the session.

Pairs every microphone block with exactly what was played meanwhile, which is the echo canceller's
reference. The callbacks copy, count and return. One device, or two that share a clock, call
`exchange`; two devices with clocks of their own call `render` and `capture`, and the playout
absorbs the drift between them.
"""

import time
from collections.abc import Callable

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ

from .playout import Playout
from .port import MAX_BACKLOG_SAMPLES, Capture, Doorbell, EndOfInput, InputRing

BLOCK_SAMPLES = 480  # 20 ms
REFERENCE_SAMPLES = 1 << 13  # of what was played, kept for a microphone with its own clock
TIMES_KEPT = 4096  # callback durations kept, 82 s of blocks


class Duplex:
    """A Port whose audio side is one callback; the device, or a stand-in, calls `exchange`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        max_backlog_samples: int = MAX_BACKLOG_SAMPLES,
    ) -> None:
        self._clock = clock
        self.ring = InputRing(max_backlog_samples)
        self.playout = Playout()
        self._arrived = Doorbell()
        self._ended = False
        self._busy_s = np.zeros(TIMES_KEPT)
        self._reference = _Reference()
        self._stale = False
        self.callbacks = 0  # of the microphone, or of both in one
        self.renders = 0  # of a speaker with its own clock
        self.input_xruns = self.output_xruns = 0
        self.zero_samples = 0  # length of the run of exact zeros at the input's end
        self.spoiled_frames = 0  # frames with NaN or infinities, silenced

    def exchange(self, mic: np.ndarray, out: np.ndarray, flags: bool = False) -> None:
        """Audio thread: mic float32 [n] in, out float32 [n] filled. Never waits, never raises."""
        start_s = time.perf_counter()
        now_s = self._clock()
        self.playout.pull(out, now_s)
        self._captured(mic, out, now_s, flags)
        self._busy_s[self.callbacks % TIMES_KEPT] = time.perf_counter() - start_s
        self.callbacks += 1

    def render(self, out: np.ndarray, flags: bool = False) -> None:
        """The speaker's audio thread: out float32 [n] filled."""
        self.playout.pull(out, self._clock())
        self._reference.push(out)
        self.renders += 1
        if flags:
            self.output_xruns += 1

    def capture(self, mic: np.ndarray, flags: bool = False) -> None:
        """The microphone's audio thread: mic float32 [n] in."""
        start_s = time.perf_counter()
        self._captured(mic, self._reference.take(len(mic)), self._clock(), flags)
        self._busy_s[self.callbacks % TIMES_KEPT] = time.perf_counter() - start_s
        self.callbacks += 1

    def _captured(self, mic: np.ndarray, played: np.ndarray, now_s: float, flags: bool) -> None:
        self.ring.push(mic, played, now_s)
        self.zero_samples = 0 if mic.any() else self.zero_samples + len(mic)
        if flags:
            self.input_xruns += 1
        self._arrived.ring()

    @property
    def xruns(self) -> int:
        """Callbacks with a PortAudio flag set: input lost, or output late."""
        return self.input_xruns + self.output_xruns

    def drop_stale(self) -> None:
        """Any thread: what waits to be heard is old (the machine slept, a device was gone)."""
        self._stale = True

    def callback_ms(self, percent: float) -> float:
        """Percentile of the newest callbacks' durations; 0.0 before the first."""
        kept = self._busy_s[: min(self.callbacks, TIMES_KEPT)]
        return 1000 * float(np.percentile(kept, percent)) if len(kept) else 0.0

    def end_input(self) -> None:
        self._ended = True
        self._arrived.ring()

    def now(self) -> float:
        return self._clock()

    def read(self, timeout_s: float) -> Capture | None:
        deadline = time.monotonic() + timeout_s
        while True:
            if self._stale:
                self._stale = False
                self.ring.flush()
            if (capture := self.ring.take()) is not None:
                return self._finite(capture)
            if self._ended:
                raise EndOfInput
            if not self._arrived.wait(deadline - time.monotonic()):
                return None

    def _finite(self, capture: Capture) -> Capture:
        """One NaN spoils a codec for minutes: a frame that holds one is silenced there."""
        if np.isfinite(capture.mic).all():
            return capture
        self.spoiled_frames += 1
        mic = np.nan_to_num(capture.mic, nan=0.0, posinf=0.0, neginf=0.0)
        return Capture(mic, capture.played, capture.captured_s)

    def play(self, pcm: np.ndarray) -> float:
        return self.playout.push(pcm, self.now())

    def buffered_s(self) -> float:
        return self.playout.level() / SAMPLE_RATE_HZ

    def flush(self) -> None:
        self.ring.flush()
        self.playout.flush()


class _Reference:
    """What a speaker with its own clock has played, for the microphone: the newest block or two.

    It never runs behind by more than two blocks, or else the canceller would see the echo before
    its cause; a slip of one block, once in minutes, is what drift costs.
    """

    def __init__(self) -> None:
        self._ring = np.zeros(REFERENCE_SAMPLES, np.float32)
        self._written = 0  # the speaker's
        self._read = 0  # the microphone's

    def push(self, block: np.ndarray) -> None:
        self._ring[np.arange(self._written, self._written + len(block)) % len(self._ring)] = block
        self._written += len(block)

    def take(self, n: int) -> np.ndarray:
        """The next n samples, zeros where nothing was played."""
        written = self._written
        if written - self._read > 2 * n:
            self._read = written - n
        have = max(0, min(n, written - self._read))
        out = np.zeros(n, np.float32)
        out[:have] = self._ring[np.arange(self._read, self._read + have) % len(self._ring)]
        self._read += have
        return out
