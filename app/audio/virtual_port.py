"""Sound devices made of arrays or files: a session without PortAudio, in real or virtual time.

A source gives microphone blocks, a sink takes what the speaker plays. `RealtimePort` calls back
from a thread of its own as a sound card would; `VirtualPort` moves its clock only when the session
waits or a fake model sleeps, so an hour takes seconds and every run is the same.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ

from .stream.callbacks import BLOCK_SAMPLES
from .stream.duplex import Duplex
from .stream.port import MAX_BACKLOG_SAMPLES, Capture

SampleSource = Callable[[int], np.ndarray | None]  # samples wanted -> float32 [n], None at the end
Sink = Callable[[np.ndarray], None]  # float32 [n], not to be kept: it is written again
ROOM_POLL_S = 0.005


class ArraySource:
    """Plays an array once, with silence before and after it."""

    def __init__(self, pcm: np.ndarray, lead_s: float = 0.0, tail_s: float = 0.0) -> None:
        lead = np.zeros(round(lead_s * SAMPLE_RATE_HZ), np.float32)
        tail = np.zeros(round(tail_s * SAMPLE_RATE_HZ), np.float32)
        self._pcm = np.concatenate([lead, np.asarray(pcm, np.float32), tail])
        self._at = 0

    def __call__(self, n: int) -> np.ndarray | None:
        if self._at >= len(self._pcm):
            return None
        block = self._pcm[self._at : self._at + n]
        self._at += n
        return block if len(block) == n else np.pad(block, (0, n - len(block)))


class _FedPort(Duplex):
    """A duplex port whose callback is driven by a source and a sink."""

    def __init__(
        self,
        source: SampleSource,
        sink: Sink,
        clock: Callable[[], float],
        block_samples: int,
        max_backlog_samples: int,
    ) -> None:
        super().__init__(clock, max_backlog_samples)
        self._source, self._sink, self._block = source, sink, block_samples
        self._out = np.zeros(block_samples, np.float32)
        self.exhausted = False

    def tick(self) -> None:
        """One callback of the device."""
        mic = None if self.exhausted else self._source(self._block)
        if mic is None:  # the speaker plays on
            self.exhausted = True
            self.end_input()
            self.playout.pull(self._out, self.now())
        else:
            self.exchange(mic, self._out)
        self._sink(self._out)


class RealtimePort(_FedPort):
    """A virtual device in real time; `start` and `stop` as with a real one.

    Its time begins with the first conversation, so that nobody talks to a model that is loading.
    With `patient` it stands still while the model is behind: nothing of the input is dropped.
    """

    def __init__(
        self,
        source: SampleSource,
        sink: Sink,
        block_samples: int = BLOCK_SAMPLES,
        max_backlog_samples: int = MAX_BACKLOG_SAMPLES,
        patient: bool = False,
    ) -> None:
        super().__init__(source, sink, time.monotonic, block_samples, max_backlog_samples)
        self._room = FRAME_SAMPLES + max_backlog_samples if patient else None
        self.waited_s = 0.0
        self._stop, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="moshi-virtual", daemon=True)
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End once what waits to be played has been played."""
        self._stop.set()
        self._begun.set()
        if self._thread.ident is not None:
            self._thread.join()

    def flush(self) -> None:
        super().flush()
        self._begun.set()

    def _run(self) -> None:
        self._begun.wait()
        due_s = time.monotonic()
        try:
            while not (self._stop.is_set() and self.playout.level() == 0):
                time.sleep(max(0.0, due_s - time.monotonic()))
                due_s += self._wait_for_room()
                self.tick()
                due_s += self._block / SAMPLE_RATE_HZ
        except Exception as error:  # thread boundary: a full disk under the sink, say
            self.failure = error
            self.end_input()

    def _wait_for_room(self) -> float:
        """Until the model has taken what waits; returns the seconds that this took."""
        if not self._is_full():
            return 0.0
        start_s = time.monotonic()
        while self._is_full() and not self._stop.is_set():
            time.sleep(ROOM_POLL_S)
        waited_s = time.monotonic() - start_s
        self.waited_s += waited_s
        return waited_s

    def _is_full(self) -> bool:
        if self._room is None or self.exhausted:
            return False
        return self.ring.available() + self._block > self._room


class VirtualPort(_FedPort):
    """A virtual device on a virtual clock, all on the caller's thread.

    `output_ppm` makes the speaker's clock run faster than the microphone's.
    """

    def __init__(
        self,
        source: SampleSource,
        sink: Sink,
        block_samples: int = BLOCK_SAMPLES,
        max_backlog_samples: int = MAX_BACKLOG_SAMPLES,
        output_ppm: float = 0.0,
    ) -> None:
        self._now_s = 0.0
        super().__init__(source, sink, lambda: self._now_s, block_samples, max_backlog_samples)
        self._block_s = block_samples / SAMPLE_RATE_HZ
        self._next_s = self._block_s
        self._output_block_s = self._block_s / (1 + output_ppm * 1e-6)
        self._drifts = output_ppm != 0.0
        self._next_output_s = self._block_s / 2

    def advance(self, seconds: float) -> None:
        """Let time pass: callbacks happen when they are due. A fake model's `sleep`."""
        until_s = self._now_s + seconds
        while (due_s := self._next_due_s()) <= until_s:
            self._now_s = due_s
            self._due(due_s)
        self._now_s = until_s

    def drain(self) -> None:
        """Play what waits."""
        while self.playout.level():
            self.advance(self._block_s)

    def _next_due_s(self) -> float:
        return min(self._next_s, self._next_output_s) if self._drifts else self._next_s

    def _due(self, due_s: float) -> None:
        if not self._drifts:
            self._next_s += self._block_s
            self.tick()
            return
        if due_s == self._next_output_s:
            self._next_output_s += self._output_block_s
            self.playout.pull(self._out, due_s)
            self._sink(self._out)
            return
        self._next_s += self._block_s
        mic = None if self.exhausted else self._source(self._block)
        if mic is None:
            self.exhausted = True
            self.end_input()
        else:
            self.ring.push(mic, None, due_s)

    def read(self, timeout_s: float) -> Capture | None:
        until_s = self._now_s + timeout_s
        while True:
            if (capture := super().read(0.0)) is not None:
                return capture
            if self._now_s >= until_s:
                return None
            self.advance(min(until_s - self._now_s, self._next_s - self._now_s))
