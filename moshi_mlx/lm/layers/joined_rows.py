"""Rows of a quantized table in one gather: a row's codes, scales and biases lie side by side.

Looking a row up in `weight`, `scales` and `biases` is three gathers and a dequantization, four
launches of a GPU for a few hundred bytes. Here the table is laid out once as uint32 rows, the
three arrays become views of it (so nothing is held twice, and names, shapes and values of a model's
parameters stay), and one gather brings all of a row.
Shapes: N rows of the table, K rows looked up, C width, G groups of a row.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

WORD_BYTES = 4
UNPACKED_BITS = (4, 8)  # whole numbers in a word: unpacked by hand, which fuses with what follows


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a row lie, in words; no biases: MLX's mxfp4, nvfp4 and mxfp8."""

    codes: int
    scales: int
    biases: int
    dtype: mx.Dtype  # of scales and biases


class JoinedRows:
    """A table as `nn.QuantizedEmbedding` has it, in rows. Made at its first lookup.

    An object and no module, so that MLX takes none of its arrays for a parameter.
    """

    def __init__(self) -> None:
        self._rows: mx.array | None = None
        self._views: tuple[mx.array | None, ...] = ()
        self._layout = _Layout(0, 0, 0, mx.float32)

    def plus(self, x: mx.array | None, table: nn.Module, ids: mx.array) -> mx.array | None:
        """x [1 or K, C] (or 0) + the rows `ids` [K] of the table, [K, C]; None where it can't be.

        More than one row only in 4 and 8 bit: MLX's dequantization would copy each part of them.
        """
        if not isinstance(table, nn.QuantizedEmbedding) or ids.ndim != 1:
            return None
        by_hand = table.mode == "affine" and table.bits in UNPACKED_BITS
        if (ids.shape[0] > 1 and not by_hand) or not self._join(table):
            return None
        assert self._rows is not None
        codes, scales, biases = self._cut(self._rows[ids])
        if by_hand and biases is not None:
            return unpacked(codes, scales, biases, table.bits, x)
        row = mx.dequantize(
            codes, scales, biases, group_size=table.group_size, bits=table.bits, mode=table.mode
        )
        return row if x is None else x + row

    def _join(self, table: nn.QuantizedEmbedding) -> bool:
        """Lay the table out, unless that was done for these very arrays; False: it has no words."""
        now = (table.weight, table.scales, table.get("biases"))
        if self._rows is not None and all(a is b for a, b in zip(now, self._views, strict=True)):
            return True
        parts = [part for part in now if part is not None]
        if any(part.shape[-1] * part.dtype.size % WORD_BYTES for part in parts):
            return False
        words = [part.view(mx.uint32) for part in parts]
        sizes = [part.shape[-1] for part in words] + [0]
        self._layout = _Layout(sizes[0], sizes[1], sizes[2], table.scales.dtype)
        self._rows = mx.concatenate(words, axis=-1)
        views = self._cut(self._rows)
        mx.eval(self._rows, [view for view in views if view is not None])
        table.weight, table.scales = views[0], views[1]
        if views[2] is not None:
            table.biases = views[2]
        self._views = (table.weight, table.scales, table.get("biases"))
        return True

    def _cut(self, rows: mx.array) -> tuple[mx.array, mx.array, mx.array | None]:
        """Rows [K, words] -> codes, scales and biases of each, as views."""
        at = self._layout
        ends = [at.codes, at.codes + at.scales]
        codes, scales, biases = mx.split(rows, ends, axis=-1)
        return codes, scales.view(at.dtype), biases.view(at.dtype) if at.biases else None


def unpacked(
    codes: mx.array, scales: mx.array, biases: mx.array, bits: int, x: mx.array | None
) -> mx.array:
    """x [1, C] + codes * scale + bias for 4 or 8 bit, [K, C]; elementwise, so it fuses into one.

    codes: uint32 [K, C * bits / 32], the first number in the lowest bits; scales, biases: [K, G].
    In float32, rounded once to the dtype of the scales.
    """
    K, G = scales.shape
    each = 32 // bits
    words = codes.reshape(K, G, -1, 1)
    shape = (K, G, words.shape[2], each)
    shifts = mx.array([bits * i for i in range(each)], mx.uint32)
    numbers = ((words >> shifts) & mx.array(2**bits - 1, mx.uint32)).astype(mx.float32)
    scale, bias = (part.astype(mx.float32).reshape(K, G, 1, 1) for part in (scales, biases))
    row = (numbers * scale + bias).astype(scales.dtype)
    if x is not None:
        row = x.reshape(-1, *shape[1:]) + row
    return row.reshape(K, -1)
