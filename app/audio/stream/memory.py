"""The samples and counters that the audio callback and the talk share, in one block of memory.

The callback may run in a process of its own, so nothing here is an object of Python's: three rings
of float32 and a row of numbers. Each number has one writer, is 8 bytes at an aligned place (one
load or store) and stands on a cache line of its own.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import secrets
import sys
from collections.abc import Callable

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ

RING_SAMPLES = 4 * SAMPLE_RATE_HZ  # of each ring; more than any backlog kept
LINE_BYTES = 128  # Apple's cache line
LOWEST_DESCRIPTOR = 10  # clear of 0 to 2, which may be closed, and of those a child is given

# whose number it is: the talk's ...
PLAY_WRITTEN, FLUSH_TO, SKIP_ASKED = range(3)
# ... and the callback's
PLAY_READ, SKIP_DONE, PULLED_S, BLOCK, UNDERRUNS, INSERTED, SKIPPED = range(3, 10)
HEARD, HEARD_S, CALLBACKS, RENDERS, INPUT_FLAGS, OUTPUT_FLAGS, ZEROS = range(10, 17)
BEAT_S = 17  # when the process was last alive
NUMBERS = 18
HEAD_BYTES = NUMBERS * LINE_BYTES
SIZE_BYTES = HEAD_BYTES + 3 * 4 * RING_SAMPLES


class SoundMemory:
    """See the module. All zeros when it is made."""

    def __init__(self, block: bytearray | mmap.mmap | None = None) -> None:
        """`block`: SIZE_BYTES that another process may see as well; None: of this process alone."""
        block = bytearray(SIZE_BYTES) if block is None else block
        head = memoryview(block)[:HEAD_BYTES]
        self._integers, self._floats = head.cast("q"), head.cast("d")
        self.mic, self.played, self.play = (
            np.frombuffer(block, np.float32, RING_SAMPLES, HEAD_BYTES + ring * 4 * RING_SAMPLES)
            for ring in range(3)
        )

    def get(self, number: int) -> int:
        return self._integers[number * LINE_BYTES // 8]

    def put(self, number: int, value: int) -> None:
        self._integers[number * LINE_BYTES // 8] = value

    def get_s(self, number: int) -> float:
        """A time in seconds."""
        return self._floats[number * LINE_BYTES // 8]

    def put_s(self, number: int, value: float) -> None:
        self._floats[number * LINE_BYTES // 8] = value

    def touch(self) -> None:
        """Have every page at hand before the first callback."""
        for ring in (self.mic, self.played, self.play):
            ring[::512] = ring[::512]


def write_ring(ring: np.ndarray, position: int, block: np.ndarray) -> None:
    """Copy a block [n] to where sample number `position` belongs, n <= RING_SAMPLES."""
    start, n = position % RING_SAMPLES, len(block)
    head = min(n, RING_SAMPLES - start)
    ring[start : start + head] = block[:head]
    if head < n:
        ring[: n - head] = block[head:]


def read_ring(ring: np.ndarray, position: int, out: np.ndarray) -> None:
    """Fill out [n] with the samples from number `position` on."""
    start, n = position % RING_SAMPLES, len(out)
    head = min(n, RING_SAMPLES - start)
    out[:head] = ring[start : start + head]
    if head < n:
        out[head:] = ring[: n - head]


def nameless_memory() -> int:
    """A descriptor of SIZE_BYTES of zeros without a name, gone with the last process on it."""
    if sys.platform == "linux":
        found = os.memfd_create("moshi-sound", os.MFD_CLOEXEC)
    else:
        import _posixshmem

        name = f"/moshi-{secrets.token_hex(8)}"  # macOS takes 31 characters
        found = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        _posixshmem.shm_unlink(name)
    descriptor = out_of_the_way(found)
    os.ftruncate(descriptor, SIZE_BYTES)
    return descriptor


def out_of_the_way(descriptor: int) -> int:
    """The same file at a number that no standard stream has, and no child is given by itself."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)
    os.close(descriptor)
    return high


def mapped(descriptor: int) -> SoundMemory:
    """The memory behind a descriptor, which may be closed afterwards."""
    return SoundMemory(mmap.mmap(descriptor, SIZE_BYTES))


def _no_fence() -> None:
    """x86-64 keeps stores in order, and loads."""


def _find_fence() -> Callable[[], object]:
    """A full memory barrier, where the processor needs one: samples are seen before their count."""
    if platform.machine() in ("x86_64", "AMD64"):
        return _no_fence
    try:  # PyDLL: the callback must not give up Python's lock for it
        if sys.platform == "darwin":
            barrier = ctypes.PyDLL(None).OSMemoryBarrier
            barrier.restype, barrier.argtypes = None, []
            return barrier
        atomic = ctypes.PyDLL("libatomic.so.1").atomic_thread_fence
        atomic.restype, atomic.argtypes = None, [ctypes.c_int]
    except (OSError, AttributeError):
        return _no_fence
    return lambda: atomic(5)  # memory_order_seq_cst


fence = _find_fence()
