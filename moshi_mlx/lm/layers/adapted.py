"""Layers that lie in one matrix, with a LoRA pair beside each.

Source: PyTorch `moshi/modules/lora.py`. Shapes: R rank, S layers.
"""

import mlx.core as mx
import mlx.nn as nn

from .linear import linear_of


class AdaptedStack(nn.Module):
    """Layers one below the other in one matrix: one product for all of A, one for all of B."""

    def __init__(self, base: nn.Module, pairs: list[tuple[mx.array, mx.array]]) -> None:
        super().__init__()
        self.base = base
        self.down = mx.contiguous(mx.concatenate([a for a, _ in pairs]).T)
        self.up = mx.stack([mx.contiguous(b.T) for _, b in pairs])  # [S, R, out]

    def __call__(self, x: mx.array) -> mx.array:
        """[..., in] -> [..., S * out]."""
        S, R, out = self.up.shape
        base = linear_of(x, self.base)
        inner = (x @ self.down).reshape(*x.shape[:-1], S, 1, R)
        return mx.addmm(base.reshape(*x.shape[:-1], S, 1, out), inner, self.up).reshape(base.shape)
