"""The embedded model, loaded once for all tests of a process: weights never change."""

from functools import cache

import moshi_mlx
from moshi_mlx.moshi import Moshi


@cache
def nano() -> Moshi:
    """Its Mimi runs in MLX: rustymimi knows Kyutai's sizes only."""
    return moshi_mlx.load("nano")
