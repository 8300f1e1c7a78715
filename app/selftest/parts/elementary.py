"""Norms and rotary positions against numpy in double precision."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.config.lm_config import TransformerConfig
from moshi_mlx.lm.layers.transformer import Attention

from .. import probe
from ..part import NONE, Deviation, Fallback
from ..site import DTYPES, Site, apart, host
from .rounding import OF_NORM

EPS = 1e-8
LOUD = 300.0  # its square is more than fp16 holds: norms must sum in float32
WIDTHS = (256, 1024, 4096)

Norm = Callable[[mx.array, mx.array, float], mx.array]


@dataclass(frozen=True)
class NormCheck:
    """RMSNorm and LayerNorm, of loud activations too."""

    rms: Norm = mx.fast.rms_norm
    name: str = "norms"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        for kind, dtype in DTYPES.items():
            for width in WIDTHS:
                for factor in (1.0, LOUD):
                    yield from self.one(site, kind, dtype, width, factor)

    def one(
        self, site: Site, kind: str, dtype: mx.Dtype, width: int, factor: float
    ) -> Iterator[Deviation]:
        drawn = factor * probe.random(f"norm {width}").standard_normal((2, width))
        with site.under_test():
            x = mx.array(drawn.astype(np.float32)).astype(dtype)
            weight = mx.array(probe.drawn("norm", (width,), "norm")).astype(dtype)
            bias = mx.array(probe.drawn("bias", (width,), "bias")).astype(dtype)
            rms = host(self.rms(x, weight, EPS))
            layer = host(mx.fast.layer_norm(x, weight, bias, 1e-5))
            x, weight, bias = (host(a).astype(np.float64) for a in (x, weight, bias))
        right = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight
        what = f"{kind}, {width} wide" + (", loud" if factor > 1 else "")
        yield Deviation(f"RMSNorm, {what}", apart(rms, right), OF_NORM[kind])
        centred = x - x.mean(-1, keepdims=True)
        right = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias
        yield Deviation(f"LayerNorm, {what}", apart(layer, right), OF_NORM[kind])


def as_configured(config: TransformerConfig) -> TransformerConfig:
    return config


@dataclass(frozen=True)
class RopeCheck:
    """Rotary positions as attention asks for them: one call for q, k and v, v at position 0.

    An hour of talk is 45,000 steps; float32 knows an angle of so many radians to 3e-3.
    """

    config: Callable[[TransformerConfig], TransformerConfig] = as_configured
    name: str = "rotary positions"
    fallback: Fallback = NONE

    POSITIONS = (0, 1, 7, 129, 2999, 45_000)

    def check(self, site: Site) -> Iterator[Deviation]:
        for width, halves in ((128, False), (64, False), (64, True)):
            config = TransformerConfig(
                dim=2 * width,
                num_heads=2,
                num_layers=1,
                hidden=(64,),
                norm_eps=EPS,
                max_period=10_000.0,
                context=16,
                rope_halves=halves,
            )
            attention = Attention(self.config(config))
            for position in self.POSITIONS:
                x = probe.random("rope").standard_normal((3, 2, 1, width)).astype(np.float32)
                with site.under_test():
                    offsets = mx.array([position, position, 0], mx.int32)
                    ours = host(attention.rotate(mx.array(x), offsets))
                right = rotated(x, np.array([position, position, 0]), halves)
                what = f"{width} wide{' in halves' if halves else ''}, step {position}"
                yield Deviation(what, apart(ours, right), 2e-5 + 4e-7 * position)


def rotated(x: np.ndarray, positions: np.ndarray, halves: bool) -> np.ndarray:
    """[N, H, 1, D] by the positions [N], in double precision."""
    D = x.shape[-1]
    angles = positions[:, None] * 10_000.0 ** (-2 * np.arange(D // 2) / D)
    turn = np.exp(1j * angles)[:, None, None]
    if halves:
        turned = (x[..., : D // 2] + 1j * x[..., D // 2 :]) * turn
        return np.concatenate([turned.real, turned.imag], axis=-1)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * turn
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
