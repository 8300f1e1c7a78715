"""Both directions of one sound device: `exchange` for the audio callback, a Port for the session.

Pairs every microphone block with exactly what was played in the same callback, which is the echo
canceller's reference. The callback copies, counts and returns.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ

from .playout import Playout
from .port import MAX_BACKLOG_SAMPLES, Capture, EndOfInput, InputRing

BLOCK_SAMPLES = 480  # 20 ms
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
        self._arrived = threading.Event()
        self._ended = False
        self._busy_s = np.zeros(TIMES_KEPT)
        self.callbacks = 0
        self.xruns = 0  # callbacks with a PortAudio flag set
        self.zero_samples = 0  # length of the run of exact zeros at the input's end
        self.spoiled_frames = 0  # frames with NaN or infinities, silenced

    def exchange(self, mic: np.ndarray, out: np.ndarray, flags: bool = False) -> None:
        """Audio thread: mic float32 [n] in, out float32 [n] filled. Never waits, never raises."""
        start_s = time.perf_counter()
        now_s = self._clock()
        self.playout.pull(out, now_s)
        self.ring.push(mic, out, now_s)
        self.zero_samples = 0 if mic.any() else self.zero_samples + len(mic)
        if flags:
            self.xruns += 1
        self._arrived.set()
        self._busy_s[self.callbacks % TIMES_KEPT] = time.perf_counter() - start_s
        self.callbacks += 1

    def callback_ms(self, percent: float) -> float:
        """Percentile of the newest callbacks' durations; 0.0 before the first."""
        kept = self._busy_s[: min(self.callbacks, TIMES_KEPT)]
        return 1000 * float(np.percentile(kept, percent)) if len(kept) else 0.0

    def end_input(self) -> None:
        self._ended = True
        self._arrived.set()

    def now(self) -> float:
        return self._clock()

    def read(self, timeout_s: float) -> Capture | None:
        deadline = time.monotonic() + timeout_s
        while True:
            self._arrived.clear()
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
