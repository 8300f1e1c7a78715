"""Helium's transformer: pre-norm blocks of attention and a gated MLP, one step or a sequence.

A step has no axis for time, [R, C]: matrix products of two dimensions need no views around them.
Source: PyTorch `moshi/modules/transformer.py`, `gating.py`, `rope.py`.
Shapes: R rows of a step, B batch, T steps, H heads, D head width, C model width, L attended keys.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ...backend.residual_norm import ResidualNorm
from ...config.lm_config import TransformerConfig
from .cross_attention import CrossAttention, KeysValues
from .kv_ring import Position, Ring, attend, rounded, write
from .linear import Linear, StackedViews, linear_of, linear_plus
from .residual import ResidualStream, joins, normed, plus, whole

QUERY_CHUNK = 512  # queries attended to at once in a sequence: bounds memory, changes nothing


@mx.compile
def silu_gate(gate: mx.array, up: mx.array) -> mx.array:
    return gate * mx.sigmoid(gate) * up


class GatedMlp(nn.Module):
    """linear_out(silu(gate) * up) with gate and up in one matrix, gate first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear_in = Linear(dim, 2 * hidden)
        self.linear_out = Linear(hidden, dim)

    def plus(self, residual: mx.array, x: mx.array) -> mx.array:
        """residual + mlp(x), both [..., C]."""
        return linear_plus(residual, self.gated(x), self.linear_out)

    def gated(self, x: mx.array) -> mx.array:
        """silu(gate) * up, [..., hidden]."""
        gate, up = mx.split(linear_of(x, self.linear_in), 2, axis=-1)
        return silu_gate(gate, up)


class Attention(nn.Module):
    """Causal self attention over the last `context` steps (itself included); RoPE interleaved."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.head_dim**-0.5
        self.in_proj = Linear(config.dim, config.qkv_dim, in_parts=True)
        self.out_proj = Linear(config.dim, config.dim)
        self._parts = StackedViews(3)  # of q, k and v

    def rotate(self, x: mx.array, offset: mx.array | int) -> mx.array:
        base = self.config.max_period
        if base is None:
            return x
        return mx.fast.rope(
            *(x, self.config.head_dim),
            **{"traditional": not self.config.rope_halves, "base": base, "scale": 1.0},
            offset=offset,
        )

    def project(
        self, x: mx.array, rotations: mx.array | None, dtype: mx.Dtype
    ) -> tuple[mx.array, mx.array]:
        """[R, C] -> q [R, H, 1, D] and kv [2, R, H, 1, D]; q, k and v rotated in one call."""
        config, R = self.config, len(x)
        if config.kv_repeat > 1:
            return self.project_shared(linear_of(x, self.in_proj).astype(dtype), rotations)
        alone = R == 1  # then q, k and v stand one after the other anyway
        qkv = linear_of(x, self.in_proj) if alone else self._parts.product(x, self.in_proj)
        qkv = qkv.reshape(3 * R, config.num_heads, 1, config.head_dim).astype(dtype)
        if rotations is not None:
            qkv = self.rotate(qkv, rotations)
        if alone:
            q, kv = mx.split(qkv, [1], axis=0)
            return q, kv
        q, kv = mx.split(qkv.reshape(3, R, *qkv.shape[1:]), [1], axis=0)
        return q.squeeze(0), kv

    def project_shared(
        self, qkv: mx.array, rotations: mx.array | None
    ) -> tuple[mx.array, mx.array]:
        """As `project`, with fewer heads G of keys and values: kv is [2, R, G, 1, D]."""
        H, G, D = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        qk, v = mx.split(qkv.reshape(-1, H + 2 * G, 1, D), [H + G], axis=1)
        if rotations is not None:
            qk = self.rotate(qk, rotations[: len(qk)])
        q, k = mx.split(qk, [H], axis=1)
        return q, mx.concatenate([k, v]) if len(q) == 1 else mx.stack([k, v])

    def step(self, x: mx.array, ring: Ring, at: Position) -> tuple[mx.array, Ring]:
        """One step [R, C]; what `out_proj` is given, and the new ring."""
        q, kv = self.project(x, at.rotations, ring[-1].dtype)
        ring = write(ring, kv, at.slot)
        return attend(q, ring, at, self.scale).astype(x.dtype).reshape(x.shape), ring

    def __call__(self, residual: mx.array, x: mx.array, kv_bits: int = 16) -> mx.array:
        """A whole sequence [B, T, C]: residual + attention(x), keys and values as a ring's."""
        return self.remember(residual, x, kv_bits)[0]

    def remember(
        self, residual: mx.array, x: mx.array, kv_bits: int = 16
    ) -> tuple[mx.array, mx.array]:
        """As `__call__`, and the keys and values [2, B, G, T, D] that a ring would have taken."""
        B, T, C = x.shape
        H, G, D = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        qkv = self.in_proj(x).reshape(B, T, H + 2 * G, D).swapaxes(1, 2)
        q, k, v = mx.split(qkv, [H, H + G], axis=1)  # [B, H or G, T, D]
        k = self.rotate(k, 0)
        out = self.attend(self.rotate(q, 0), rounded(k, kv_bits), rounded(v, kv_bits))
        out = linear_plus(residual, out.swapaxes(1, 2).reshape(B, T, C), self.out_proj)
        return out, mx.stack([k, v])

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Windowed causal attention, [B, H, T, D] each; queries in chunks."""
        T, window = q.shape[2], self.config.context or q.shape[2]
        chunks = []
        for start in range(0, T, QUERY_CHUNK):
            stop, first = min(start + QUERY_CHUNK, T), max(0, start + 1 - window)
            behind = mx.arange(start, stop)[:, None] - mx.arange(first, stop)[None]
            mask = (behind >= 0) & (behind < window)
            chunks.append(
                mx.fast.scaled_dot_product_attention(
                    q[:, :, start:stop],
                    k[:, :, first:stop],
                    v[:, :, first:stop],
                    scale=self.scale,
                    mask=mask,
                )
            )
        return mx.concatenate(chunks, axis=2)


class Block(nn.Module):
    """norm, attention, [norm, cross attention,] norm, gated MLP; a residual around each.

    `kernel`: what a step adds and norms with, None for MLX's own operations.
    """

    def __init__(
        self, config: TransformerConfig, hidden: int, kernel: ResidualNorm | None = None
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm1 = nn.RMSNorm(config.dim, config.norm_eps)
        self.self_attn = Attention(config)
        if config.cross_attention:
            self.norm_cross = nn.LayerNorm(config.dim, 1e-5)
            self.cross_attention = CrossAttention(config)
        self.norm2 = nn.RMSNorm(config.dim, config.norm_eps)
        self.gating = GatedMlp(config.dim, hidden)

    @property
    def joins_norms(self) -> bool:
        """Whether a step's additions and norms are the kernel's, any of them."""
        layers = (self.self_attn.out_proj, self.gating.linear_out)
        return any(joins(layer, self.kernel) for layer in layers)

    def step(
        self, x: ResidualStream, ring: Ring, at: Position, attended: KeysValues | None = None
    ) -> tuple[ResidualStream, Ring]:
        """One step [R, C]; `attended`: the conversation's, for the cross attention."""
        residual, x = normed(x, self.norm1)
        out, ring = self.self_attn.step(x, ring, at)
        return self.after_attention(residual, out, attended), ring

    def after_attention(
        self, residual: mx.array, out: mx.array, attended: KeysValues | None = None
    ) -> ResidualStream:
        """The rest of a step: `out` [R, C] is what attention found."""
        x = plus(residual, out, self.self_attn.out_proj, self.kernel)
        if attended is not None:
            x = whole(x)
            x = self.cross_attention.step(x, self.norm_cross(x), attended)
        residual, x = normed(x, self.norm2)
        return plus(residual, self.gating.gated(x), self.gating.linear_out, self.kernel)

    def mlp(self, x: mx.array) -> mx.array:
        return self.gating.plus(x, self.norm2(x))

    def __call__(self, x: mx.array, source: mx.array | None = None, kv_bits: int = 16) -> mx.array:
        """A whole sequence [B, T, C], its source [B, S, C]."""
        x = self.self_attn(x, self.norm1(x), kv_bits)
        if source is not None:
            x = x + self.cross_attention(self.norm_cross(x), source)
        return self.mlp(x)

    def remember(
        self, x: mx.array, attended: KeysValues | None, kv_bits: int
    ) -> tuple[mx.array, mx.array]:
        """A whole sequence [B, T, C], as steps; and the keys and values [2, B, G, T, D] of it."""
        x, kv = self.self_attn.remember(x, self.norm1(x), kv_bits)
        if attended is not None:
            x = x + self.cross_attention.sequence(self.norm_cross(x), attended)
        return self.mlp(x), kv


class Transformer(nn.Module):
    """The temporal transformer, with cross attention where the model has it."""

    def __init__(self, config: TransformerConfig, kernel: ResidualNorm | None = None) -> None:
        super().__init__()
        self.config = config
        self.layers = [Block(config, config.hidden[0], kernel) for _ in range(config.num_layers)]

    def step(
        self,
        x: ResidualStream,
        rings: list[Ring],
        at: Position,
        attended: Sequence[KeysValues] = (),
    ) -> tuple[ResidualStream, list[Ring]]:
        """One step [R, C] with one ring a layer; returns the output and the new rings.

        attended: keys and values for each layer's cross attention, none: that is left out.
        """
        new_rings = []
        each = attended or [None] * len(self.layers)
        for layer, ring, own in zip(self.layers, rings, each, strict=True):
            x, ring = layer.step(x, ring, at, own)
            new_rings.append(ring)
        return x, new_rings

    def __call__(self, x: mx.array, source: mx.array | None = None, kv_bits: int = 16) -> mx.array:
        """A whole sequence [B, T, C], causal with the window; source [B, S, C] or None."""
        for layer in self.layers:
            x = layer(x, source, kv_bits)
        return x
