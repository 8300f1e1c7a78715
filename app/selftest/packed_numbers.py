"""MLX's quantized formats as numpy reads them: what codes, scales and biases stand for.

affine: code * scale + bias, the first number of a row in the lowest bits. mxfp4, nvfp4: codes are
e2m1 floats of 4 bits, mxfp8: e4m3 floats of 8; scales are powers of two (e8m0), in nvfp4 e4m3.
Source: OCP Microscaling Formats 1.0; MLX's documentation of `mx.quantize`.
Shapes: N rows, C width, G groups of a row.
"""

from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.recipes import Format

PackedParts = dict[str, np.ndarray]
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def quantized(weight: np.ndarray, chosen: Format) -> PackedParts:
    """float32 [N, C] -> weight uint32, scales[, biases], rounded on the CPU.

    Scales and biases of the affine ones are numbers that bf16 has, as in files.
    """
    with mx.stream(mx.cpu):
        array = mx.array(weight)
        if chosen.mode == "affine":
            array = array.astype(mx.bfloat16)
        parts = mx.quantize(array, group_size=chosen.group_size, bits=chosen.bits, mode=chosen.mode)
        mx.eval(parts)
        plain = [p.astype(mx.float32) if p.dtype == mx.bfloat16 else p for p in parts]
        return dict(zip(("weight", "scales", "biases"), map(np.array, plain), strict=False))


def unpacked(parts: Mapping[str, np.ndarray], chosen: Format) -> np.ndarray:
    """float32 [N, C], the numbers themselves."""
    codes, scales = codes_of(parts["weight"], chosen.bits), parts["scales"]
    groups = codes.reshape(len(codes), -1, chosen.group_size)
    if chosen.mode == "affine":
        numbers = groups * scales[..., None] + parts["biases"][..., None]
    else:
        values = E2M1[groups] if chosen.bits == 4 else e4m3(groups)
        factors = e4m3(scales) if chosen.mode == "nvfp4" else np.exp2(scales.astype(float) - 127)
        numbers = values * factors[..., None]
    return numbers.reshape(len(codes), -1).astype(np.float32)


def codes_of(words: np.ndarray, bits: int) -> np.ndarray:
    """uint32 [N, C * bits / 32] -> int [N, C]; codes may cross the ends of words."""
    N = len(words)
    stream = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
    return stream.reshape(N, -1, bits).astype(np.int64) @ (1 << np.arange(bits))


def e4m3(codes: np.ndarray) -> np.ndarray:
    """Floats of 8 bits: sign, 4 bits of exponent (bias 7), 3 of mantissa."""
    codes = codes.astype(np.int64)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * np.exp2(exponent - 7.0))
    return np.where(codes & 128, -size, size).astype(np.float32)
