"""Mimi's transformer: causal, each position attends to exactly `context` keys, itself included.

Shapes: B batch, T new positions, W = context - 1 kept ones, H heads, D head width. Source:
PyTorch `moshi.modules.transformer` run offline (its streaming ring loses a key of the first of the
two positions of a frame). Here the keys of the last W positions stand before the T new ones in the
order of time, so one band mask serves frames and whole files alike.
"""

import math

import mlx.core as mx
import numpy as np

from .config import TransformerConfig
from .state import POSITION, State, StateLayout
from .tensors import Tensors

LAYER_NORM_EPS = 1e-5


def gelu(x: mx.array) -> mx.array:
    """The exact one, with erf."""
    return x * (0.5 * (1 + mx.erf(x * math.sqrt(0.5))))


class _Places:
    """What all layers share in one call: rotation [T, D / 2] and attention mask [T, W + T]."""

    def __init__(self, config: TransformerConfig, steps: int, position: mx.array) -> None:
        D, W = config.head_dim, config.context - 1
        frequencies = np.exp(np.arange(D // 2) * (-math.log(config.max_period) * 2 / D))
        times = position + mx.arange(steps)
        angles = times.astype(mx.float32)[:, None] * mx.array(frequencies.astype(np.float32))
        self.cos, self.sin = mx.cos(angles), mx.sin(angles)
        query, key = np.arange(steps)[:, None], np.arange(W + steps)
        band = mx.array((key >= query) & (key <= query + W))
        self.mask = band & (mx.arange(W + steps) >= W - position)

    def rotate(self, x: mx.array) -> mx.array:
        """RoPE on interleaved pairs, in float32: [..., T, D] -> [..., T, D]."""
        pairs = x.astype(mx.float32).reshape(*x.shape[:-1], -1, 2)
        real, imaginary = pairs[..., 0], pairs[..., 1]
        rotated = [
            real * self.cos - imaginary * self.sin,
            real * self.sin + imaginary * self.cos,
        ]
        return mx.stack(rotated, axis=-1).reshape(x.shape).astype(x.dtype)


class Layer:
    """Pre-norm attention and GELU feed-forward: [B, T, H * D] -> the same."""

    def __init__(
        self, config: TransformerConfig, tensors: Tensors, layout: StateLayout, name: str
    ) -> None:
        width, hidden = config.d_model, config.dim_feedforward

        def norm(place: str) -> tuple[mx.array, mx.array]:
            weight = tensors.take(f"{name}.{place}.weight", width)
            return weight, tensors.take(f"{name}.{place}.bias", width)

        def linear(place: str, outputs: int, inputs: int, scale: str | None = None) -> mx.array:
            weight = tensors.take(f"{name}.{place}", outputs, inputs)
            if scale is not None and config.layer_scale is not None:  # folded into the product
                weight = weight * tensors.take(f"{name}.{scale}.scale", outputs)[:, None]
            return mx.contiguous(weight.T)

        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.norm1, self.norm2 = norm("norm1"), norm("norm2")
        self.qkv = linear("self_attn.in_proj_weight", 3 * width, width)
        self.out = linear("self_attn.out_proj.weight", width, width, "layer_scale_1")
        self.up = linear("linear1.weight", hidden, width)
        self.down = linear("linear2.weight", width, hidden, "layer_scale_2")
        self.kept = config.context - 1
        self.slot = layout.add(2, 1, self.num_heads, self.kept, self.head_dim)

    def __call__(self, x: mx.array, places: _Places, state: State) -> mx.array:
        h = mx.fast.layer_norm(x, *self.norm1, LAYER_NORM_EPS)
        x = mx.addmm(x, self._attend(h, places, state), self.out)
        h = mx.fast.layer_norm(x, *self.norm2, LAYER_NORM_EPS)
        return mx.addmm(x, gelu(h @ self.up), self.down)

    def _attend(self, x: mx.array, places: _Places, state: State) -> mx.array:
        B, T, width = x.shape
        qkv = (x @ self.qkv).reshape(B, T, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each [B, H, T, D]
        q, k = places.rotate(mx.stack([q, k]))
        kv = mx.concatenate([state[self.slot], mx.stack([k, v])], axis=3)
        state[self.slot] = kv[:, :, :, T:]
        y = mx.fast.scaled_dot_product_attention(
            q, kv[0], kv[1], scale=self.head_dim**-0.5, mask=places.mask
        )
        return y.transpose(0, 2, 1, 3).reshape(B, T, width)


class Transformer:
    """All layers of `part`, with projections where its width is not SEANet's: [B, T, width]."""

    def __init__(
        self, config: TransformerConfig, tensors: Tensors, layout: StateLayout, part: str
    ) -> None:
        self.config = config
        width, outer = config.d_model, config.input_dimension
        self.into = self.back = None
        if width != outer:
            self.into = tensors.take(f"{part}.input_proj.weight", width, outer).T
            self.back = tensors.take(f"{part}.output_projs.0.weight", outer, width).T
        self.layers = [
            Layer(config, tensors, layout, f"{part}.transformer.layers.{index}")
            for index in range(config.num_layers)
        ]

    def __call__(self, x: mx.array, state: State) -> mx.array:
        places = _Places(self.config, x.shape[1], state[POSITION])
        x = x if self.into is None else x @ self.into
        for layer in self.layers:
            x = layer(x, places, state)
        return x if self.back is None else x @ self.back
