"""Quantized layers as they lie in a file: read off their tensors (nobody passes a flag), and back.

`weight` is uint32 [out, in * bits / 32], `scales` [out, in / group]; affine layers have `biases`,
MLX's mxfp4, nvfp4 and mxfp8 don't and keep their scales in one byte.
"""

from collections.abc import Mapping, Sequence

import mlx.core as mx

from ..errors import WeightsError
from .recipes import Format, format_by_shape


def read_format(
    layer: str, tensors: Mapping[str, mx.array], shape: tuple[int, ...], path: str
) -> Format:
    """The format of a layer whose unquantized weight would be `shape` = [out, in].

    Raises WeightsError when its tensors don't fit each other or the shape.
    """
    weight, scales = tensors[f"{layer}.weight"], tensors[f"{layer}.scales"]
    biases = tensors.get(f"{layer}.biases")
    out, width = shape
    chosen = format_by_shape(weight.shape[-1], scales.shape[-1], width, biases is not None)
    if biases is None:
        fits = scales.dtype == mx.uint8
    else:
        fits = biases.shape == scales.shape
        fits &= all(mx.issubdtype(part.dtype, mx.floating) for part in (scales, biases))
    rows = {weight.shape[0], scales.shape[0], out}
    if chosen is None or not fits or weight.dtype != mx.uint32 or len(rows) > 1:
        raise WeightsError(
            f"{path}: the quantized layer {layer} (weight {list(weight.shape)}, scales "
            f"{list(scales.shape)}) does not fit the config's [{out}, {width}]"
        )
    return chosen


def dequantize(parts: Sequence[mx.array], chosen: Format) -> mx.array:
    """(weight, scales[, biases]) -> float32 [out, in], as exact as a matrix product sees them.

    In bf16, MLX's own result is rounded once more.
    """
    weight, scales, *biases = parts
    if chosen.mode == "affine":
        scales, biases = scales.astype(mx.float32), [part.astype(mx.float32) for part in biases]
    return mx.dequantize(
        weight,
        scales,
        biases[0] if biases else None,
        group_size=chosen.group_size,
        bits=chosen.bits,
        mode=chosen.mode,
    ).astype(mx.float32)
