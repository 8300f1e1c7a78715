"""GPTQ: round column after column; what each column's rounding does to the output is made good by
the columns that are still to come, as far as the layer's inputs allow.

Source: Frantar et al., "GPTQ" (arXiv 2210.17323), algorithm 1. Groups, scales and bits are those of
MLX's affine quantization. Shapes: R rows (outputs), C columns (inputs), N inputs seen.
"""

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.formats import dequantize
from moshi_mlx.weights.recipes import Format

from ..recipe.rounding import to_mlx, to_numpy

DAMPING = 0.01  # of the mean diagonal, as in the paper: directions that were hardly seen
PACK_ROWS = 2048  # rows whose bits are spread out at once: bounds memory


def inverse_factor(hessian: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """A layer's Hessian [C, C] -> upper U [C, C], float32, with inv(H) = UT U.

    The Hessian of the squared error of an output is the sum of x xT over the inputs (the paper's
    factor of 2 doesn't change the rounding).

    Inputs that never fired get a diagonal of their own: their weights are rounded to the nearest.
    """
    hessian = hessian.astype(np.float64)
    diagonal = np.einsum("cc->c", hessian)
    diagonal[diagonal <= 0] = 1.0
    diagonal += damping * diagonal.mean()
    # H = A AT with A upper (Cholesky from the last row on), so inv(H) = UT U for U = inv(A)
    lower = np.linalg.cholesky(hessian[::-1, ::-1])
    return np.triu(np.linalg.inv(lower[::-1, ::-1])).astype(np.float32)


def gptq(weight: mx.array, factor: np.ndarray, chosen: Format) -> tuple[np.ndarray, ...]:
    """Weight [R, C] (bf16), `inverse_factor` [C, C] -> weight, scales, biases as mx.quantize's.

    Arrays of the file: uint32, and bf16 as uint16.
    """
    columns = np.ascontiguousarray(np.array(weight.astype(mx.float32)).T)  # [C, R]
    steps = np.empty(columns.shape, np.uint8)
    scales, biases = [], []
    for start in range(0, len(columns), chosen.group_size):
        stop = start + chosen.group_size
        scale, bias = _grid(columns[start:stop], chosen)
        errors = _round_group(columns, steps, factor, (start, stop), (scale, bias), chosen)
        columns[stop:] -= factor[start:stop, stop:].T @ errors
        scales.append(scale)
        biases.append(bias)
    grid = (mx.array(np.stack(part, axis=1)).astype(mx.bfloat16) for part in (scales, biases))
    return (pack(np.ascontiguousarray(steps.T), chosen.bits), *(to_numpy(part) for part in grid))


def _round_group(
    columns: np.ndarray,
    steps: np.ndarray,
    factor: np.ndarray,
    group: tuple[int, int],
    grid: tuple[np.ndarray, np.ndarray],
    chosen: Format,
) -> np.ndarray:
    """One group's columns in order; their errors [group_size, R], divided by U's diagonal."""
    (start, stop), (scale, bias) = group, grid
    top = 2**chosen.bits - 1
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    errors = np.empty((stop - start, columns.shape[1]), np.float32)
    for c in range(start, stop):
        column = columns[c]
        step = np.clip(np.rint((column - bias) * inverse), 0, top)
        steps[c] = step
        errors[c - start] = error = (column - (step * scale + bias)) / factor[c, c]
        columns[c + 1 : stop] -= factor[c, c + 1 : stop, None] * error
    return errors


def _grid(columns: np.ndarray, chosen: Format) -> tuple[np.ndarray, np.ndarray]:
    """MLX's scale and bias of a group for every row, [R] each: the values that bf16 holds."""
    group = mx.array(np.ascontiguousarray(columns.T)).astype(mx.bfloat16)
    _, scales, biases = mx.quantize(group, group_size=chosen.group_size, bits=chosen.bits)
    scale, bias = (np.array(part.astype(mx.float32))[:, 0] for part in (scales, biases))
    return scale, bias


def pack(steps: np.ndarray, bits: int) -> np.ndarray:
    """Integers [R, C] below 2**bits -> uint32 [R, C * bits / 32]: one stream of bits a row, the
    lowest first, which is MLX's layout for every number of bits."""
    rows, width = steps.shape
    packed = np.empty((rows, width * bits // 32), "<u4")
    for start in range(0, rows, PACK_ROWS):
        block = steps[start : start + PACK_ROWS, :, None]
        stream = np.unpackbits(block, axis=2, count=bits, bitorder="little")
        stream = stream.reshape(len(block), -1)
        packed[start : start + PACK_ROWS] = np.packbits(stream, axis=1, bitorder="little").view(
            "<u4"
        )
    return packed


def dequantized_arrays(parts: tuple[np.ndarray, ...], chosen: Format) -> mx.array:
    """What the file's arrays of a layer stand for, float32 [R, C]."""
    weight, *grid = parts
    return dequantize((mx.array(weight), *(to_mlx(part, "BF16") for part in grid)), chosen)
