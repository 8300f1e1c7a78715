"""A Port on the memory of a sound process, which may be another one at the next read."""

import threading
import time

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ

from ..stream import memory as m
from ..stream.callbacks import LONGEST_FILL_S
from ..stream.memory import write_ring
from ..stream.port import Capture, EndOfInput, finite_capture
from .process import SoundProcess

SLICE_S = 0.05  # how soon a reader sees a new process, or the end
DEAD_END_S = 0.002  # a process has ended, its successor is on its way


class Rings:
    """`read` is for one thread, `play` for another, the rest for any."""

    def __init__(self, process: SoundProcess) -> None:
        self.process = process
        self._swap = threading.Lock()  # held while the process changes, and for one read or write
        self._ended, self._xruns = False, (0, 0)
        self._heard_s = 0.0  # what `heard_s` was at the last move
        self.held = False  # True: nothing is heard, the talk waits

    def now(self) -> float:
        return time.monotonic()

    def read(self, timeout_s: float) -> Capture | None:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._swap:
                process = self.process
                if self.held:
                    process.ring.flush()
                capture = process.ring.take()
            if capture is not None:
                return finite_capture(capture)
            if self._ended:
                raise EndOfInput
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if not process.listen(min(left_s, SLICE_S)) and process.ended is not None:
                time.sleep(DEAD_END_S)

    def play(self, pcm: np.ndarray) -> float:
        with self._swap:
            return self.process.playout.push(pcm, self.now())

    def buffered_s(self) -> float:
        return self.process.playout.level() / SAMPLE_RATE_HZ

    def flush(self) -> None:
        with self._swap:
            self.process.ring.flush()
            self.process.playout.flush()

    def end_input(self) -> None:
        """No more will be heard."""
        self._ended = True

    @property
    def heard_s(self) -> float:
        """When the microphone's newest sample arrived, in whichever process."""
        return max(self._heard_s, self.process.memory.get_s(m.HEARD_S))

    @property
    def xruns(self) -> tuple[int, int]:
        """Callbacks with a flag set so far: input lost, output late."""
        get, (before_in, before_out) = self.process.memory.get, self._xruns
        return before_in + get(m.INPUT_FLAGS), before_out + get(m.OUTPUT_FLAGS)

    def move(self, process: SoundProcess, since_s: float | None) -> None:
        """To a process that has nothing open yet, with what lies in the dead one's memory.

        `since_s`: when it heard its last sample; older than a second, or None: what wasn't read
        is forgotten.
        """
        old = self.process
        if process is old:
            return
        with self._swap:
            if since_s is not None and self.now() - since_s < LONGEST_FILL_S:
                mic, played = old.ring.rest()
                write_ring(process.memory.mic, 0, mic)
                write_ring(process.memory.played, 0, played)
                process.ring.arrived(len(mic), since_s)
            process.playout.push(old.playout.waiting(), self.now())
            self._xruns, self._heard_s = self.xruns, self.heard_s
            self.process = process
