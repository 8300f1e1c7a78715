"""Cross attention to the conditions of a conversation (Kyutai's text to speech models).

Source: PyTorch `moshi/modules/transformer.py`. Shapes: B batch, T steps, S source steps, C width.
"""

import mlx.core as mx
import mlx.nn as nn

from ...config.lm_config import TransformerConfig


class CrossAttention(nn.Module):
    """Queries from the model, keys and values from the source; no rotation, no mask."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.in_proj = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.out_proj = nn.Linear(config.dim, config.dim, bias=False)

    def __call__(self, x: mx.array, source: mx.array) -> mx.array:
        """x [B, T, C], source [B, S, C] -> [B, T, C]."""
        q = mx.split(self.in_proj(x), 3, axis=-1)[0]
        _, k, v = mx.split(self.in_proj(source), 3, axis=-1)
        q, k, v = (self.heads(part) for part in (q, k, v))
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.head_dim**-0.5)
        return self.out_proj(out.swapaxes(1, 2).reshape(x.shape))

    def heads(self, x: mx.array) -> mx.array:
        B, T, _ = x.shape
        return x.reshape(B, T, self.num_heads, self.head_dim).swapaxes(1, 2)
