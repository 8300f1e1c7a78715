"""Where a session's samples come from and go to: bounded, never blocking the audio side.

One writer (an audio callback, a socket) calls `push_input`; one reader (the model thread) calls
`read`. One thread at a time calls `play`: the model thread, or the one that decodes beside it.
Counters have one writer each, so no lock is taken on the audio side.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from moshi_mlx.audio.finite import finite
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ

from .memory import RING_SAMPLES, SILENCE, Samples, SoundMemory, fence, read_ring, write_ring

MAX_BACKLOG_SAMPLES = 2 * FRAME_SAMPLES  # 160 ms beyond the frame at hand: more is dropped


class EndOfInput(Exception):  # noqa: N818 (a signal, not an error)
    """The port will never deliver another sample: the file ended, the visitor has gone."""


@dataclass(frozen=True, eq=False)
class Capture:
    """Input for one frame: the last 1920 samples count, older ones were dropped to catch up."""

    mic: np.ndarray  # the near end, float32 [n], n >= 1920
    played: np.ndarray  # the far end, float32 [n]: what the speaker played at the same time
    captured_s: float  # when the last sample arrived, on the port's clock

    @property
    def dropped_samples(self) -> int:
        return len(self.mic) - FRAME_SAMPLES


def finite_capture(capture: Capture) -> Capture:
    """The same with silence for samples that are no number."""
    mic = finite(capture.mic)
    if mic is capture.mic:
        return capture
    return Capture(mic, capture.played, capture.captured_s)


class Port(Protocol):
    """What `Session` needs; both sides of a device, a file, a websocket."""

    def now(self) -> float:
        """Seconds on the port's clock (real, or virtual in tests)."""
        ...

    def read(self, timeout_s: float) -> Capture | None:
        """The next frame's input; None after `timeout_s` without one. Raises EndOfInput."""
        ...

    def play(self, pcm: np.ndarray) -> float:
        """Take one reply [1920]; returns the seconds until its first sample sounds."""
        ...

    def buffered_s(self) -> float:
        """Seconds of replies that wait to be played."""
        ...

    def flush(self) -> None:
        """Forget all queued input and output: a new conversation starts."""
        ...


class InputRing:
    """The newest 4 s of input and of what was played meanwhile; the reader decides what to drop.

    Where writer and reader are two processes on one memory, each has a ring of its own on it, and
    the reader's hears of new samples by `arrived`.
    """

    def __init__(
        self, max_backlog_samples: int = MAX_BACKLOG_SAMPLES, memory: SoundMemory | None = None
    ) -> None:
        memory = memory or SoundMemory()
        self._mic, self._played = memory.mic, memory.played
        self._max_backlog = max_backlog_samples
        self.written = 0  # samples ever written; the writer's
        self.taken = 0  # samples ever taken or dropped; the reader's
        self.last_write_s = 0.0

    def arrived(self, written: int, now_s: float) -> None:
        """The reader's side of another process: so much has been written, the last of it then."""
        self.written, self.last_write_s = written, now_s

    def push(self, mic: Samples, played: Samples | None, now_s: float) -> None:
        """Copy a block [n] in, n <= 2 s; the oldest samples are overwritten when nobody reads."""
        written, n = self.written, len(mic)
        write_ring(self._mic, written, mic)
        write_ring(self._played, written, SILENCE[:n] if played is None else played)
        fence()
        self.last_write_s = now_s
        self.written = written + n

    def available(self) -> int:
        return self.written - self.taken

    def take(self) -> Capture | None:
        """A frame, or a longer stretch that ends in the newest frame when too much has piled up."""
        written, captured_s = self.written, self.last_write_s
        waiting = written - self.taken
        if waiting < FRAME_SAMPLES:
            return None
        n = FRAME_SAMPLES if waiting <= FRAME_SAMPLES + self._max_backlog else waiting
        lost = max(0, n - RING_SAMPLES // 2)  # overwritten, or about to be
        start = self.taken + lost
        self.taken += n
        captured_s -= (written - self.taken) / SAMPLE_RATE_HZ
        mic, played = np.zeros(n, np.float32), np.zeros(n, np.float32)
        fence()
        read_ring(self._mic, start, mic[lost:])
        read_ring(self._played, start, played[lost:])
        return Capture(mic, played, captured_s)

    def rest(self) -> tuple[np.ndarray, np.ndarray]:
        """The reader's side, once nobody writes any more: what waits, (mic, played) float32 [n]."""
        n = min(self.available(), RING_SAMPLES // 2)
        mic, played = np.empty(n, np.float32), np.empty(n, np.float32)
        read_ring(self._mic, self.written - n, mic)
        read_ring(self._played, self.written - n, played)
        self.taken = self.written
        return mic, played

    def flush(self) -> None:
        """Reader's side: forget everything that waits."""
        self.taken = self.written


class Doorbell:
    """Wakes one reader. Ringing takes no lock that a thread could hold while it waits for the CPU.

    (An Event's `set` takes one, which the model thread holds within `clear` and `wait`.)
    """

    def __init__(self) -> None:
        self._bell = threading.Lock()  # held: not rung
        self._bell.acquire()

    def ring(self) -> None:
        """Any thread; never waits."""
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):  # another thread has rung just now
                self._bell.release()

    def wait(self, seconds: float) -> bool:
        """The reader: True once it has been rung since the last time, False after `seconds`."""
        return self._bell.acquire(timeout=max(0.0, seconds))


class QueuePort:
    """A port fed by `push_input` from any one thread; replies go to `on_play`, as with `play`.

    The web server makes one for each visitor: `on_play` hands the frame to its event loop.
    """

    def __init__(
        self,
        on_play: Callable[[np.ndarray], None],
        max_backlog_samples: int = MAX_BACKLOG_SAMPLES,
    ) -> None:
        self._on_play = on_play
        self._ring = InputRing(max_backlog_samples)
        self._arrived = Doorbell()
        self._ended = False

    def now(self) -> float:
        return time.monotonic()

    def push_input(self, block: np.ndarray) -> None:
        """Add float32 samples [n] in [-1, 1], any n up to 2 s; never blocks, NaN is silenced."""
        block = finite(np.asarray(block, np.float32))
        self._ring.push(block, None, self.now())
        self._arrived.ring()

    def end_input(self) -> None:
        """No more input will come: the conversation ends once what is queued has been heard."""
        self._ended = True
        self._arrived.ring()

    def read(self, timeout_s: float) -> Capture | None:
        deadline = self.now() + timeout_s
        while True:
            if (capture := self._ring.take()) is not None:
                return capture
            if self._ended:
                raise EndOfInput
            if not self._arrived.wait(deadline - self.now()):
                return None

    def play(self, pcm: np.ndarray) -> float:
        self._on_play(pcm)
        return 0.0

    def buffered_s(self) -> float:
        return 0.0

    def flush(self) -> None:
        self._ring.flush()
