"""The residual stream of a step, whose last addition may be left to the norm that comes next.

Where a GPU has one kernel for both (`backend/residual_norm.py`) and the product before can't add
by itself, as one of quantized weights can't. Otherwise a stream is an array, as ever.
Shapes: R rows of a step, C width.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ...backend.residual_norm import ResidualNorm
from .linear import linear_plus


@dataclass(frozen=True)
class Unadded:
    """residual + branch, [R, C] each, and the kernel that is to add them."""

    residual: mx.array
    branch: mx.array
    kernel: ResidualNorm


ResidualStream = mx.array | Unadded


def joins(linear: nn.Module, kernel: ResidualNorm | None) -> bool:
    """Whether the addition after a layer is left to the norm that follows it."""
    return kernel is not None and isinstance(linear, nn.QuantizedLinear)


def plus(
    residual: mx.array, x: mx.array, linear: nn.Module, kernel: ResidualNorm | None
) -> ResidualStream:
    """residual + linear(x); for quantized weights and where there is a kernel, left open."""
    if kernel is None or not joins(linear, kernel):
        return linear_plus(residual, x, linear)
    return Unadded(residual, linear(x), kernel)


def normed(stream: ResidualStream, norm: nn.RMSNorm) -> tuple[mx.array, mx.array]:
    """The stream [R, C], and its norm."""
    if isinstance(stream, Unadded):
        return stream.kernel(stream.residual, stream.branch, norm.weight, norm.eps)
    return stream, norm(stream)


def whole(stream: ResidualStream) -> mx.array:
    """The stream [R, C], where no norm follows."""
    return stream.residual + stream.branch if isinstance(stream, Unadded) else stream
