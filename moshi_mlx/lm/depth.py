"""The depth transformer: the codes of one frame, one codebook (slice) after the other.

Each slice has its own weights (or shares a set by the schedule) and attends to the slices before
it in the same frame; nothing is kept from one frame to the next.
Source: PyTorch `moshi/models/lm.py`, forward_depformer and depformer_step.
Shapes: B batch, R rows of a step (each a conversation's, or with guidance two), T steps, S slices,
C temporal width, E depth width, D head width.
"""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..backend.residual_norm import ResidualNorm
from ..config.lm_config import DepthConfig, LmConfig
from .layers.embedding import TokenEmbedding
from .layers.kv_ring import live
from .layers.linear import Linear, linear_of, linear_plus
from .layers.residual import ResidualStream, normed, whole
from .layers.transformer import Block

Choose = Callable[[int, mx.array], mx.array]  # slice, logits [R, card] -> a conversation's token


class DepthTransformer(nn.Module):
    """`weight_sets[w].layers`, `embs[s]`, `heads[s]`, and all input projections in one matrix."""

    def __init__(
        self, lm: LmConfig, config: DepthConfig, kernel: ResidualNorm | None = None
    ) -> None:
        """`kernel`: as that of `Block`."""
        super().__init__()
        self.config = config
        dim, sets = config.transformer.dim, config.num_weight_sets
        self.linear_in = Linear(lm.transformer.dim, sets * dim)
        self.embs = [TokenEmbedding(lm.text_card + 1, dim, config.low_rank, lm.demux_second_stream)]
        self.embs += [
            TokenEmbedding(lm.card + 1, dim, config.low_rank) for _ in range(config.num_slices - 1)
        ]
        self.weight_sets = [
            [
                Block(config.transformer, hidden, kernel)
                for _ in range(config.transformer.num_layers)
            ]
            for hidden in config.transformer.hidden
        ]
        if config.head_norm:
            self.norms = [nn.LayerNorm(dim, 1e-5) for _ in range(config.num_slices)]
        self.heads = [Linear(dim, lm.card) for _ in range(config.num_slices)]

    def inputs(self, temporal: mx.array) -> list[mx.array]:
        """[..., C] -> the input [..., E] of every slice, by one matrix product."""
        all_sets = linear_of(temporal, self.linear_in)
        per_set = mx.split(all_sets, self.config.num_weight_sets, axis=-1)
        return [per_set[w] for w in self.config.schedule]

    def normed(self, s: int, x: mx.array) -> mx.array:
        """What a slice's head is given, [..., E]."""
        return self.norms[s](x) if self.config.head_norm else x

    def position(self, s: int, dtype: mx.Dtype) -> mx.array:
        """Sinusoidal position of a slice, [E] (only where the config asks for it)."""
        half = self.config.transformer.dim // 2
        phase = s / (10_000.0 ** (mx.arange(half) / (half - 1)))
        return mx.concatenate([mx.cos(phase), mx.sin(phase)]).astype(dtype)

    def frame(
        self, temporal: mx.array, text: mx.array, choose: Choose, slices: int | None = None
    ) -> list[mx.array]:
        """One frame: temporal [R, C], text tokens [B] -> the codes [B] of each slice.

        Rows of one conversation are given the same tokens. `slices`: only the first so many.
        """
        before: list[mx.array | None] = [None] * self.config.transformer.num_layers
        token, tokens = text, []
        for s, x in enumerate(self.inputs(temporal)[:slices]):
            x = self.embs[s].plus(x, token if len(token) == len(x) else mx.tile(token, 2))
            if self.config.sin_positions:
                x = x + self.position(s, x.dtype)
            stream: ResidualStream = x
            for i, block in enumerate(self.weight_sets[self.config.schedule[s]]):
                stream, before[i] = slice_step(block, stream, before[i])
            token = choose(s, linear_of(self.normed(s, whole(stream)), self.heads[s]))
            tokens.append(token)
        return tokens

    def __call__(self, temporal: mx.array, text: mx.array, codes: mx.array) -> mx.array:
        """Teacher forced: temporal [B, T, C], text [B, T], codes [B, S, T] -> [B, T, S, card]."""
        B, T, _ = temporal.shape
        rows = self.rows(temporal, text, codes)
        for layer in range(self.config.transformer.num_layers):
            rows = self.layer(layer, rows)
        return self.logits(rows).reshape(B, T, rows.shape[1], -1)

    def rows(self, temporal: mx.array, text: mx.array, codes: mx.array) -> mx.array:
        """The layers' input, [BT, S, E], as `__call__` is given it."""
        B, T, _ = temporal.shape
        xs = []
        for s, x in enumerate(self.inputs(temporal)):
            x = x + self.embs[s](text if s == 0 else codes[:, s - 1])
            xs.append(x + self.position(s, x.dtype) if self.config.sin_positions else x)
        return mx.stack(xs, axis=2).reshape(B * T, len(xs), -1)

    def logits(self, rows: mx.array) -> mx.array:
        """The layers' output [BT, S, E] -> [BT, S, card]."""
        columns = mx.split(rows, len(self.heads), axis=1)
        normed = [self.normed(s, x) for s, x in enumerate(columns)]
        return mx.concatenate([head(x) for head, x in zip(self.heads, normed, strict=True)], 1)

    def layer(self, i: int, rows: mx.array) -> mx.array:
        """One layer over all slices at once, [BT, S, E]: own weights a slice, causal."""
        blocks = [self.weight_sets[w][i] for w in self.config.schedule]
        xs = mx.split(rows, len(blocks), axis=1)
        qkv = [b.self_attn.in_proj(b.norm1(x)) for b, x in zip(blocks, xs, strict=True)]
        parts = mx.split(mx.concatenate(qkv, axis=1), 3, axis=-1)
        H = self.config.transformer.num_heads
        q, k, v = (part.reshape(*part.shape[:2], H, -1).swapaxes(1, 2) for part in parts)
        out = mx.fast.scaled_dot_product_attention(
            q, k, v, scale=blocks[0].self_attn.scale, mask="causal"
        )
        outs = mx.split(out.swapaxes(1, 2).reshape(rows.shape), len(blocks), axis=1)
        done = []
        for block, x, o in zip(blocks, xs, outs, strict=True):
            x = linear_plus(x, o, block.self_attn.out_proj)
            done.append(block.mlp(x))
        return mx.concatenate(done, axis=1)


def slice_step(
    block: Block, x: ResidualStream, before: mx.array | None
) -> tuple[ResidualStream, mx.array]:
    """One slice through one layer, [R, E]; `before`: keys and values of the slices so far.

    [2, R, H, s, D] in, [2, R, H, s + 1, D] out, by concatenation. A buffer written slot by slot
    would be copied at every write: the attention of the slice before still holds it.
    """
    attn = block.self_attn
    residual, x = normed(x, block.norm1)
    q, kv = attn.project(x, None, x.dtype)
    if before is None:  # attention to a single key is that key's value
        out = mx.split(kv, 2, axis=0)[1]
    else:
        kv = mx.concatenate([before, kv], axis=-2)
        out = mx.fast.scaled_dot_product_attention(q, *live(kv, kv.shape[-2]), scale=attn.scale)
    return block.after_attention(residual, out.reshape(x.shape)), kv
