"""Linear layers with a LoRA adapter beside them, for weights that it can't be merged into.

y = W x + B (A x). Source: PyTorch `moshi/modules/lora.py`.
Shapes: R rank, S layers that lie in one matrix.
"""

import mlx.core as mx
import mlx.nn as nn


class AdaptedLinear(nn.Module):
    """A layer (quantized, most often) and its pair: a [R, in], b [out, R]."""

    def __init__(self, base: nn.Module, a: mx.array, b: mx.array) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = mx.contiguous(a.T), mx.contiguous(b.T)

    def __call__(self, x: mx.array) -> mx.array:
        """[..., in] -> [..., out]."""
        return mx.addmm(self.base(x), x @ self.down, self.up)


class AdaptedStack(nn.Module):
    """Layers one below the other in one matrix, with a pair each: one product for all of A."""

    def __init__(self, base: nn.Module, pairs: list[tuple[mx.array, mx.array]]) -> None:
        super().__init__()
        self.base = base
        self.down = mx.contiguous(mx.concatenate([a for a, _ in pairs]).T)
        self.up = mx.stack([mx.contiguous(b.T) for _, b in pairs])  # [S, R, out]

    def __call__(self, x: mx.array) -> mx.array:
        """[..., in] -> [..., S * out]."""
        S, R, _ = self.up.shape
        inner = (x @ self.down).reshape(*x.shape[:-1], S, 1, R)
        return self.base(x) + (inner @ self.up).reshape(*x.shape[:-1], -1)
