"""Memory bandwidth where no table has it: the fastest of a few large copies."""

import time

import mlx.core as mx

COPY_BYTES = 256 * 2**20
ROUNDS = 5


def measured_gb_s(copy_bytes: int = COPY_BYTES, rounds: int = ROUNDS) -> float:
    """GB/s (10^9 bytes) read and written by MLX's default device while it copies."""
    source = mx.zeros((copy_bytes // 4,), mx.float32)
    mx.eval(source)
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        mx.eval(source + 1.0)
        best = min(best, time.perf_counter() - start)
    return 2 * copy_bytes / best / 1e9
