"""A Port whose audio side is called in this very process: virtual devices, and tests of both."""

import time
from collections.abc import Callable

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ

from .callbacks import Callbacks
from .memory import SoundMemory
from .port import MAX_BACKLOG_SAMPLES, Capture, Doorbell, EndOfInput, finite_capture


class Duplex(Callbacks):
    """The device, or a stand-in, calls `exchange`; the session reads and plays."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        max_backlog_samples: int = MAX_BACKLOG_SAMPLES,
    ) -> None:
        self._arrived = Doorbell()
        super().__init__(
            SoundMemory(), lambda heard, when_s: self._arrived.ring(), clock, max_backlog_samples
        )
        self.playout.prepare()
        self._ended = False

    def end_input(self) -> None:
        self._ended = True
        self._arrived.ring()

    def now(self) -> float:
        return self._clock()

    def read(self, timeout_s: float) -> Capture | None:
        deadline = time.monotonic() + timeout_s
        while True:
            if (capture := self.ring.take()) is not None:
                return finite_capture(capture)
            if self._ended:
                raise EndOfInput
            if not self._arrived.wait(deadline - time.monotonic()):
                return None

    def play(self, pcm: np.ndarray) -> float:
        return self.playout.push(pcm, self.now())

    def buffered_s(self) -> float:
        return self.playout.level() / SAMPLE_RATE_HZ

    def flush(self) -> None:
        self.ring.flush()
        self.playout.flush()
