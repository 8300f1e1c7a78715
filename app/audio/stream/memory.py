"""The samples and counters that the audio callback and the talk share, in one block of memory.

The callback may run in a process of its own, so nothing here is an object of Python's: three rings
of float32 and a row of numbers. Each number has one writer, is 8 bytes at an aligned place (one
load or store) and stands on a cache line of its own.

Both are memoryviews: to slice and copy one takes a fraction of what numpy takes, above all when
the callback comes after 20 ms in which the processor's caches have been filled with other things.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import secrets
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moshi_mlx.clock import SAMPLE_RATE_HZ

RING_SAMPLES = 4 * SAMPLE_RATE_HZ  # of each ring; more than any backlog kept
LINE_BYTES = 128  # Apple's cache line
WORDS = LINE_BYTES // 8  # from one number to the next
LOWEST_DESCRIPTOR = 10  # clear of 0 to 2, which may be closed, and of those a child is given

# where each number stands and whose it is: the talk's ...
PLAY_WRITTEN, FLUSH_TO, SKIP_ASKED = range(0, 3 * WORDS, WORDS)
# ... and the callback's
PLAY_READ, SKIP_DONE, PULLED_S, BLOCK = range(3 * WORDS, 7 * WORDS, WORDS)
UNDERRUNS, INSERTED, SKIPPED = range(7 * WORDS, 10 * WORDS, WORDS)
HEARD, HEARD_S, CALLBACKS, RENDERS = range(10 * WORDS, 14 * WORDS, WORDS)
INPUT_FLAGS, OUTPUT_FLAGS, ZEROS = range(14 * WORDS, 17 * WORDS, WORDS)
BEAT_S = 17 * WORDS  # when the process was last alive
HEAD_BYTES = 18 * LINE_BYTES
RING_BYTES = 4 * RING_SAMPLES
SIZE_BYTES = HEAD_BYTES + 3 * RING_BYTES

if TYPE_CHECKING:
    Floats = memoryview[float]
else:
    Floats = memoryview
Samples = Any  # float32 [n] in whatever has a buffer: Floats, an array of numpy's
SILENCE = memoryview(bytes(RING_BYTES)).cast("f")


class SoundMemory:
    """See the module. All zeros when it is made."""

    def __init__(self, block: bytearray | mmap.mmap | None = None) -> None:
        """`block`: SIZE_BYTES that another process may see as well; None: of this process alone."""
        block = bytearray(SIZE_BYTES) if block is None else block
        view = memoryview(block)
        head, rings = view[:HEAD_BYTES], view[HEAD_BYTES:]
        self.integers, self.floats = head.cast("q"), head.cast("d")  # the same words
        self.mic, self.played, self.play = (
            rings[start : start + RING_BYTES].cast("f")
            for start in range(0, len(rings), RING_BYTES)
        )

    def get(self, number: int) -> int:
        return self.integers[number]

    def put(self, number: int, value: int) -> None:
        self.integers[number] = value

    def get_s(self, number: int) -> float:
        """A time in seconds."""
        return self.floats[number]

    def put_s(self, number: int, value: float) -> None:
        self.floats[number] = value

    def touch(self) -> None:
        """Have every page at hand before the first callback."""
        for ring in (self.mic, self.played, self.play):
            ring[::512] = ring[::512]


def write_ring(ring: Floats, position: int, block: Samples) -> None:
    """Copy a block [n] to where sample number `position` belongs, n <= len(ring)."""
    size = len(ring)
    start = position % size
    end = start + len(block)
    if end <= size:
        ring[start:end] = block
    else:
        ring[start:] = block[: size - start]
        ring[: end - size] = block[size - start :]


def read_ring(ring: Floats, position: int, out: Samples) -> None:
    """Fill out [n] with the samples from number `position` on, n <= len(ring)."""
    size = len(ring)
    start = position % size
    end = start + len(out)
    if end <= size:
        out[:] = ring[start:end]
    else:
        out[: size - start] = ring[start:]
        out[size - start :] = ring[: end - size]


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
