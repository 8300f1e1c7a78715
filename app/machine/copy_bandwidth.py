"""Memory bandwidth where no table has it: the fastest of a few large copies.

A GPU's copies are MLX's, a CPU's numpy's: MLX's CPU backend touches new pages at every operation,
which is slower than the memory.
"""

import time
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from moshi_mlx.backend.device import on_gpu

COPY_BYTES = 256 * 2**20
ROUNDS = 5


def measured_gb_s(
    copy_bytes: int = COPY_BYTES, rounds: int = ROUNDS, gpu: bool | None = None
) -> float:
    """GB/s (10^9 bytes) read and written; gpu: None: as MLX's default device is."""
    copy_s = _mlx_copy_s if (on_gpu() if gpu is None else gpu) else _numpy_copy_s
    return 2 * copy_bytes / copy_s(copy_bytes, rounds) / 1e9


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
