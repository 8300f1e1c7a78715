"""Memory bandwidth where no table has it: the fastest of a few large copies.

MLX's default device and numpy both copy, and the faster one counts: on a GPU that is MLX, on a CPU
numpy, since MLX's CPU backend touches new pages at every operation.
"""

import time
from collections.abc import Callable

import mlx.core as mx
import numpy as np

COPY_BYTES = 256 * 2**20
ROUNDS = 5


def measured_gb_s(copy_bytes: int = COPY_BYTES, rounds: int = ROUNDS) -> float:
    """GB/s (10^9 bytes) read and written."""
    seconds = min(_mlx_copy_s(copy_bytes, rounds), _numpy_copy_s(copy_bytes, rounds))
    return 2 * copy_bytes / seconds / 1e9


def _mlx_copy_s(copy_bytes: int, rounds: int) -> float:
    source = mx.zeros((copy_bytes // 4,), mx.float32)
    mx.eval(source)
    return _best_s(lambda: mx.eval(source + 1.0), rounds)


def _numpy_copy_s(copy_bytes: int, rounds: int) -> float:
    source, target = np.zeros(copy_bytes, np.uint8), np.ones(copy_bytes, np.uint8)
    return _best_s(lambda: np.copyto(target, source), rounds)


def _best_s(copy: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        copy()
        best = min(best, time.perf_counter() - start)
    return best
