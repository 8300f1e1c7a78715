"""What PortAudio's callbacks call: they copy, count and return. They never wait and never raise.

Every microphone block is paired with exactly what was played meanwhile, which is the echo
canceller's reference. One device, or two that share a clock, call `exchange`; two devices with
clocks of their own call `render` and `capture`, and the playout absorbs the drift between them.
"""

import time
from collections.abc import Callable

from moshi_mlx.clock import SAMPLE_RATE_HZ

from . import memory as m
from .memory import SILENCE, Floats, Samples, SoundMemory, read_ring, write_ring
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
        self, mic: Samples, out: Samples, input_flags: bool = False, late: bool = False
    ) -> None:
        """Both: mic float32 [n] in, out float32 [n] filled.

        `input_flags`: input was lost before this block; `late`: output came too late for it.
        """
        now_s, out = self._clock(), memoryview(out)
        self.playout.pull(out, now_s)
        if late:
            self._count(m.OUTPUT_FLAGS)
        self._captured(memoryview(mic), out, now_s, input_flags)

    def render(self, out: Samples, late: bool = False) -> None:
        """The speaker: out float32 [n] filled."""
        out = memoryview(out)
        self.playout.pull(out, self._clock())
        self._reference.push(out)
        self._count(m.RENDERS)
        if late:
            self._count(m.OUTPUT_FLAGS)

    def capture(self, mic: Samples, input_flags: bool = False) -> None:
        """The microphone: mic float32 [n] in."""
        played = self._reference.take(len(mic))
        self._captured(memoryview(mic), played, self._clock(), input_flags)

    def _captured(self, mic: Floats, played: Floats, now_s: float, input_flags: bool) -> None:
        n, ring, integers = len(mic), self.ring, self._memory.integers
        if self._missed_since_s is not None:
            self._fill(now_s - self._missed_since_s - n / SAMPLE_RATE_HZ, now_s)
        ring.push(mic, played, now_s)
        integers[m.ZEROS] = integers[m.ZEROS] + n if mic == SILENCE[:n] else 0
        if input_flags:
            self._count(m.INPUT_FLAGS)
        self._memory.floats[m.HEARD_S] = now_s
        integers[m.HEARD] = ring.written
        integers[m.CALLBACKS] += 1
        self._ring_bell(ring.written, now_s)

    def _fill(self, missed_s: float, now_s: float) -> None:
        """Silence for the time without a microphone."""
        self._missed_since_s = None
        n = round(missed_s * SAMPLE_RATE_HZ)
        if 0 < missed_s < LONGEST_FILL_S:
            self.ring.push(SILENCE[:n], None, now_s)

    def _count(self, number: int) -> None:
        self._memory.integers[number] += 1


class _Reference:
    """What a speaker with its own clock has played, for the microphone: the newest block or two.

    It never runs behind by more than two blocks, or else the canceller would see the echo before
    its cause; a slip of one block, once in minutes, is what drift costs.
    """

    def __init__(self) -> None:
        self._ring = memoryview(bytearray(4 * REFERENCE_SAMPLES)).cast("f")
        self._taken = memoryview(bytearray(4 * REFERENCE_SAMPLES)).cast("f")
        self._written = 0  # the speaker's
        self._read = 0  # the microphone's

    def push(self, block: Floats) -> None:
        """n <= REFERENCE_SAMPLES."""
        write_ring(self._ring, self._written, block)
        self._written += len(block)

    def take(self, n: int) -> Floats:
        """The next n samples, zeros where nothing was played; good until the next call."""
        written = self._written
        behind = written - self._read
        if behind > 2 * n or behind > REFERENCE_SAMPLES:
            behind = min(n, REFERENCE_SAMPLES)
            self._read = written - behind
        have = min(n, behind)
        if n > len(self._taken):
            self._taken = memoryview(bytearray(4 * n)).cast("f")
        out = self._taken[:n]
        read_ring(self._ring, self._read, out[:have])
        if have < n:
            out[have:] = SILENCE[: n - have]
        self._read += have
        return out
