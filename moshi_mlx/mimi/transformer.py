"""Mimi's transformer: causal, each position attends to exactly `context` keys, itself included.

Shapes: B batch, T new positions, W = context - 1 kept ones, H heads, D head width. Source:
PyTorch `moshi.modules.transformer` run offline (its streaming ring loses a key of the first of the
two positions of a frame). Here the keys of the last W positions stand before the T new ones in the
order of time, so one band mask serves frames and whole files alike.
"""

import math

import mlx.core as mx

from .config import MimiTransformerConfig
from .state import POSITION, State, StateLayout
from .tensors import Tensors, evaluated

LAYER_NORM_EPS = 1e-5


def gelu(x: mx.array) -> mx.array:
    """The exact one, with erf."""
    return x * (0.5 * (1 + mx.erf(x * math.sqrt(0.5))))


def attention_mask(context: int, steps: int, position: mx.array) -> mx.array:
    """Which of W kept and T new keys each new position sees: bool [T, W + T].

    Exactly the `context` newest up to itself, and nothing from before the stream's start.
    """
    kept = context - 1
    query, key = mx.arange(steps)[:, None], mx.arange(kept + steps)
    return (key >= query) & (key <= query + kept) & (key >= kept - position)


def qkv_rotations(batch: int, steps: int, position: mx.array) -> mx.array:
    """RoPE positions of all q, all k, all v, int32 [3 * B * T]: v's are 0, no rotation."""
    at = (position + mx.arange(steps)) * mx.array([[[1]], [[1]], [[0]]])
    return mx.broadcast_to(at, (3, batch, steps)).flatten()


class MimiLayer:
    """Pre-norm attention and GELU feed-forward: [B, T, H * D] -> the same."""

    def __init__(
        self, config: MimiTransformerConfig, tensors: Tensors, layout: StateLayout, name: str
    ) -> None:
        width, hidden = config.d_model, config.dim_feedforward

        def norm(place: str) -> tuple[mx.array, mx.array]:
            weight = tensors.take(f"{name}.{place}.weight", width)
            return weight, tensors.take(f"{name}.{place}.bias", width)

        def linear(place: str, outputs: int, inputs: int, scale: str | None = None) -> mx.array:
            weight = tensors.take(f"{name}.{place}", outputs, inputs)
            if scale is not None and config.layer_scale is not None:  # folded into the product
                weight = weight * tensors.take(f"{name}.{scale}.scale", outputs)[:, None]
            return evaluated(mx.contiguous(weight.T))

        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.norm1, self.norm2 = norm("norm1"), norm("norm2")
        # Three matrices, [3, C, C], so that q stands by itself: Metal's attention copies it else.
        qkv = linear("self_attn.in_proj_weight", 3 * width, width)
        self.qkv = evaluated(mx.contiguous(qkv.reshape(width, 3, width).swapaxes(0, 1)))
        self.out = linear("self_attn.out_proj.weight", width, width, "layer_scale_1")
        self.up = linear("linear1.weight", hidden, width)
        self.down = linear("linear2.weight", width, hidden, "layer_scale_2")
        self.max_period = float(config.max_period)
        self.slot = layout.add(2, 1, config.num_heads, config.context - 1, config.head_dim)

    def __call__(self, x: mx.array, mask: mx.array, rotations: mx.array, state: State) -> mx.array:
        h = mx.fast.layer_norm(x, *self.norm1, LAYER_NORM_EPS)
        x = mx.addmm(x, self._attend(h, mask, rotations, state), self.out)
        h = mx.fast.layer_norm(x, *self.norm2, LAYER_NORM_EPS)
        return mx.addmm(x, gelu(h @ self.up), self.down)

    def _attend(self, x: mx.array, mask: mx.array, rotations: mx.array, state: State) -> mx.array:
        B, T, width = x.shape
        H, D = self.num_heads, self.head_dim
        qkv = mx.fast.rope(
            (x.reshape(B * T, width) @ self.qkv).reshape(3 * B * T, H, 1, D),
            D,
            traditional=True,
            base=self.max_period,
            scale=1.0,
            offset=rotations,
        )
        qkv = qkv.reshape(3, B, T, H, D).swapaxes(2, 3)
        q, kv = mx.split(qkv, [1], axis=0)
        kv = mx.concatenate([state[self.slot], kv], axis=3)
        state[self.slot] = kv[..., T:, :]
        k, v = mx.split(kv, 2, axis=0)
        y = mx.fast.scaled_dot_product_attention(
            q.squeeze(0), k.squeeze(0), v.squeeze(0), scale=D**-0.5, mask=mask
        )
        return y.transpose(0, 2, 1, 3).reshape(B, T, width)


class MimiTransformer:
    """All layers of `part`, with projections where its width is not SEANet's: [B, T, width]."""

    def __init__(
        self, config: MimiTransformerConfig, tensors: Tensors, layout: StateLayout, part: str
    ) -> None:
        self.context = config.context
        width, outer = config.d_model, config.input_dimension
        self.into = self.back = None
        if width != outer:
            self.into = evaluated(tensors.take(f"{part}.input_proj.weight", width, outer).T)
            self.back = evaluated(tensors.take(f"{part}.output_projs.0.weight", outer, width).T)
        self.layers = [
            MimiLayer(config, tensors, layout, f"{part}.transformer.layers.{index}")
            for index in range(config.num_layers)
        ]

    def __call__(self, x: mx.array, state: State) -> mx.array:
        mask = attention_mask(self.context, x.shape[1], state[POSITION])
        rotations = qkv_rotations(x.shape[0], x.shape[1], state[POSITION])
        x = x if self.into is None else x @ self.into
        for layer in self.layers:
            x = layer(x, mask, rotations, state)
        return x if self.back is None else x @ self.back
