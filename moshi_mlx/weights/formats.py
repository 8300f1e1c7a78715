"""How a layer is quantized, read off its tensors: nobody passes a flag.

`weight` is uint32 [out, in * bits / 32], `scales` [out, in / group]; affine layers have `biases`,
MLX's mxfp4, nvfp4 and mxfp8 don't and keep their scales in one byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from ..errors import WeightsError

AFFINE_BITS = (2, 3, 4, 5, 6, 8)
AFFINE_GROUPS = (32, 64, 128)
BYTE_MODES = {(4, 32): "mxfp4", (4, 16): "nvfp4", (8, 32): "mxfp8"}


@dataclass(frozen=True)
class Quantization:
    """What `mx.quantize` was called with."""

    bits: int
    group_size: int
    mode: str = "affine"

    def __str__(self) -> str:
        return f"{self.bits} bit, group {self.group_size}, {self.mode}"


def read_quantization(
    layer: str, tensors: Mapping[str, mx.array], shape: tuple[int, ...], path: str
) -> Quantization:
    """The quantization of a layer whose unquantized weight would be `shape` = [out, in].

    Raises WeightsError when its tensors don't fit each other or the shape.
    """
    weight, scales = tensors[f"{layer}.weight"], tensors[f"{layer}.scales"]
    biases = tensors.get(f"{layer}.biases")
    out, width = shape
    bits, left_bits = divmod(weight.shape[-1] * 32, width)
    group, left_group = divmod(width, max(1, scales.shape[-1]))
    if biases is not None:
        mode = "affine"
        floats = all(mx.issubdtype(part.dtype, mx.floating) for part in (scales, biases))
        known = bits in AFFINE_BITS and group in AFFINE_GROUPS and floats
        known = known and biases.shape == scales.shape
    else:
        mode = BYTE_MODES.get((bits, group), "unknown")
        known = mode != "unknown" and scales.dtype == mx.uint8
    rows = {weight.shape[0], scales.shape[0], out}
    if weight.dtype != mx.uint32 or left_bits or left_group or len(rows) > 1 or not known:
        raise WeightsError(
            f"{path}: the quantized layer {layer} (weight {list(weight.shape)}, scales "
            f"{list(scales.shape)}) does not fit the config's [{out}, {width}]"
        )
    return Quantization(bits, group, mode)
