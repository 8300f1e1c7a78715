"""Blocks of rows from the source's bits to a target's tensors, and back. MLX's own quantization."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.recipes import Format

# rows of a module's weight [rows, width] (bf16) and its name -> the tensors of MLX's quantization
Rounding = Callable[[str, mx.array, Format], tuple[mx.array, ...]]


def nearest(name: str, weight: mx.array, chosen: Format) -> tuple[mx.array, ...]:
    """mlx.core.quantize, as nn.quantize calls it: (weight, scales[, biases])."""
    del name
    return tuple(
        mx.quantize(weight, group_size=chosen.group_size, bits=chosen.bits, mode=chosen.mode)
    )


def to_mlx(values: np.ndarray, dtype: str) -> mx.array:
    """Rows of a mapped tensor (bf16 as uint16) -> bf16 array."""
    if dtype == "BF16":
        return mx.array(values).view(mx.bfloat16)
    return mx.array(values).astype(mx.bfloat16)


def to_numpy(array: mx.array) -> np.ndarray:
    """An array's bytes: bf16 as uint16."""
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)
