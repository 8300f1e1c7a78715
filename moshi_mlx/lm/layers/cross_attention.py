"""Cross attention to the conditions of a conversation (Kyutai's text to speech models).

Keys and values depend on the conditions alone: a conversation makes them once, and a step is left
with the queries' third of the matrix.
Source: PyTorch `moshi/modules/transformer.py`. Shapes: B batch, T steps, R rows of a step, S source
steps, H heads, D head width, C width.
"""

import mlx.core as mx
import mlx.nn as nn

from ...config.lm_config import TransformerConfig
from .linear import Linear, StackedViews, linear_plus

KeysValues = tuple[mx.array, mx.array]  # [R, H, S, D] each


class CrossAttention(nn.Module):
    """Queries from the model, keys and values from the source; no rotation, no mask."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.scale = config.head_dim**-0.5
        self.in_proj = Linear(config.dim, 3 * config.dim, in_parts=True)
        self.out_proj = Linear(config.dim, config.dim)
        self._parts = StackedViews(3)  # of q, k and v

    def __call__(self, x: mx.array, source: mx.array) -> mx.array:
        """A whole sequence [B, T, C], source [B, S, C] -> [B, T, C]."""
        return self.sequence(x, self.keys_values(source))

    def sequence(self, x: mx.array, attended: KeysValues) -> mx.array:
        """A whole sequence [B, T, C] -> [B, T, C]."""
        q = self.heads(mx.split(self.in_proj(x), 3, axis=-1)[0])
        out = mx.fast.scaled_dot_product_attention(q, *attended, scale=self.scale)
        return self.out_proj(out.swapaxes(1, 2).reshape(x.shape))

    def keys_values(self, source: mx.array) -> KeysValues:
        """Of a source [R, S, C]."""
        _, k, v = mx.split(self.in_proj(source), 3, axis=-1)
        return self.heads(k), self.heads(v)

    def step(self, residual: mx.array, x: mx.array, attended: KeysValues) -> mx.array:
        """One step [R, C]: residual + what it finds."""
        q = self._parts.one(0, x, self.in_proj).reshape(len(x), self.num_heads, 1, self.head_dim)
        out = mx.fast.scaled_dot_product_attention(q, *attended, scale=self.scale)
        return linear_plus(residual, out.reshape(x.shape), self.out_proj)

    def heads(self, x: mx.array) -> mx.array:
        B, T, _ = x.shape
        return x.reshape(B, T, self.num_heads, self.head_dim).swapaxes(1, 2)
