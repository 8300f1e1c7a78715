"""What PortAudio's callbacks call: they copy, count and return. They never wait and never raise.

Every microphone block is paired with exactly what was played meanwhile, which is the echo
canceller's reference. One device, or two that share a clock, call `exchange`; two devices with
clocks of their own call `render` and `capture`, and the playout absorbs the drift between them.
"""

import time
from collections.abc import Callable

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ

from . import memory as m
from .memory import SoundMemory
from .playout import Playout
from .port import MAX_BACKLOG_SAMPLES, InputRing

BLOCK_SAMPLES = 480  # 20 ms
LONGEST_FILL_S = 1.0  # a loss of the microphone that is bridged by silence
REFERENCE_SAMPLES = 1 << 13  # of what was played, kept for a microphone with its own clock

RingBell = Callable[[int, float], None]  # samples ever heard, when the newest of them arrived


class Callbacks:
    """The audio side of a block of memory."""

    def __init__(
        self,
        memory: SoundMemory,
        ring_bell: RingBell,
        clock: Callable[[], float] = time.monotonic,
        max_backlog_samples: int = MAX_BACKLOG_SAMPLES,
    ) -> None:
        self._memory, self._ring_bell, self._clock = memory, ring_bell, clock
        self.ring = InputRing(max_backlog_samples, memory)
        self.playout = Playout(memory)
        self._reference = _Reference()
        self._missed_since_s: float | None = None

    @property
    def callbacks(self) -> int:
        """Of the microphone, or of both in one."""
        return self._memory.get(m.CALLBACKS)

    @property
    def renders(self) -> int:
        """Of a speaker with its own clock."""
        return self._memory.get(m.RENDERS)

    def resume(self, heard: int, since_s: float | None) -> None:
        """Before the first callback: so many samples lie in the memory already.

        `since_s`: when the last of them arrived; what was missed since will be silence, so that
        time goes on without a hole. None: nothing is to be filled in.
        """
        self.ring.written = max(heard, self.ring.written)
        self._missed_since_s = since_s

    def exchange(
        self, mic: np.ndarray, out: np.ndarray, input_flags: bool = False, late: bool = False
    ) -> None:
        """Both: mic float32 [n] in, out float32 [n] filled.

        `input_flags`: input was lost before this block; `late`: output came too late for it.
        """
        now_s = self._clock()
        self.playout.pull(out, now_s)
        if late:
            self._count(m.OUTPUT_FLAGS)
        self._captured(mic, out, now_s, input_flags)

    def render(self, out: np.ndarray, late: bool = False) -> None:
        """The speaker: out float32 [n] filled."""
        self.playout.pull(out, self._clock())
        self._reference.push(out)
        self._count(m.RENDERS)
        if late:
            self._count(m.OUTPUT_FLAGS)

    def capture(self, mic: np.ndarray, input_flags: bool = False) -> None:
        """The microphone: mic float32 [n] in."""
        played = self._reference.take(len(mic))
        self._captured(mic, played, self._clock(), input_flags)

    def _captured(
        self, mic: np.ndarray, played: np.ndarray, now_s: float, input_flags: bool
    ) -> None:
        if self._missed_since_s is not None:
            self._fill(now_s - self._missed_since_s - len(mic) / SAMPLE_RATE_HZ, now_s)
        self.ring.push(mic, played, now_s)
        memory = self._memory
        memory.put(m.ZEROS, 0 if mic.any() else memory.get(m.ZEROS) + len(mic))
        if input_flags:
            self._count(m.INPUT_FLAGS)
        memory.put_s(m.HEARD_S, now_s)
        memory.put(m.HEARD, self.ring.written)
        self._count(m.CALLBACKS)
        self._ring_bell(self.ring.written, now_s)

    def _fill(self, missed_s: float, now_s: float) -> None:
        """Silence for the time without a microphone."""
        self._missed_since_s = None
        n = round(missed_s * SAMPLE_RATE_HZ)
        if 0 < missed_s < LONGEST_FILL_S:
            self.ring.push(np.zeros(n, np.float32), None, now_s)

    def _count(self, number: int) -> None:
        self._memory.put(number, self._memory.get(number) + 1)


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
