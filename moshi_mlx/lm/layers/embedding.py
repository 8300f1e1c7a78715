"""Token embeddings: -1 embeds to exactly zero, quantized or not.

Source: PyTorch `moshi/models/lm_utils.py`, ScaledEmbedding.
Shapes: B batch, T steps, K codebooks, C width.
"""

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...config.lm_config import NO_INPUT
from .joined_rows import JoinedRows
from .linear import Linear, linear_of, linear_plus


class TokenEmbedding(nn.Module):
    """One table, [...] -> [..., C]; optionally low rank, or with a second text stream muxed in."""

    def __init__(self, num: int, dim: int, low_rank: int | None = None, demux: bool = False):
        super().__init__()
        self.num = num
        self.emb = nn.Embedding(num, low_rank or dim)
        if low_rank is not None:  # in the files even where the second stream leaves it unused
            self.low_rank = Linear(low_rank, dim)
        if demux:
            self.out1 = Linear(low_rank or dim, dim)
            self.out2 = Linear(low_rank or dim, dim)
        self._joined = JoinedRows()

    def copy_row(self, source: int, target: int) -> None:
        """Make one token embed as another; exact for quantized tables too, whose rows stand alone.

        For a model that is being loaded: weights don't change afterwards.
        """
        for name, table in self.emb.parameters().items():
            rows = np.arange(len(table))
            rows[target] = source
            self.emb.update({name: table[mx.array(rows)]})  # a new one: what is made of it is too

    def __call__(self, ids: mx.array) -> mx.array:
        given = ids[..., None] != NO_INPUT  # so written it's one operation with `where`
        return mx.where(given, self.lookup(ids), 0)  # -1 looks up the last row

    def lookup(self, ids: mx.array) -> mx.array:
        """Without the test for -1: for tokens that were just sampled."""
        if "out1" in self:
            # Both streams share the table: token = (second + 1) * num + first, second -1 = none.
            ids = ids.astype(mx.int32)  # argmax gives unsigned ones
            second = ids // self.num - 1
            heard = (second >= 0)[..., None]
            y = linear_of(self.emb(mx.maximum(second, 0)), self.out2)
            return linear_of(self.emb(ids % self.num), self.out1) + mx.where(heard, y, 0)
        y = self._rows(ids)
        return linear_of(y, self.low_rank) if "low_rank" in self else y

    def plus(self, x: mx.array, ids: mx.array) -> mx.array:
        """x [R, C] + lookup(ids [R]), in one operation where it can be."""
        if "out1" in self:
            return x + self.lookup(ids)
        if "low_rank" in self:
            return linear_plus(x, self._rows(ids), self.low_rank)
        joined = self._joined.plus(x, self.emb, ids)
        return x + self.emb(ids) if joined is None else joined

    def _rows(self, ids: mx.array) -> mx.array:
        joined = self._joined.plus(None, self.emb, ids)
        return self.emb(ids) if joined is None else joined


class StackedEmbedding(nn.Module):
    """The tables of all codebooks in one, and one row of zeros: one gather, one sum."""

    def __init__(self, num_codebooks: int, num: int, dim: int) -> None:
        super().__init__()
        self.num_codebooks, self.num = num_codebooks, num
        self.emb = nn.Embedding(num_codebooks * num + 1, dim)
        self._joined = JoinedRows()

    @property
    def zero_row(self) -> int:
        return self.num_codebooks * self.num

    def rows(self, codes: mx.array) -> mx.array:
        """Codes [B, K, T] with -1 for no input -> rows of the table, [B, T, K]."""
        first = self.num * mx.arange(self.num_codebooks)[:, None]
        return mx.where(codes == NO_INPUT, self.zero_row, codes + first).swapaxes(1, 2)

    def __call__(self, rows: mx.array) -> mx.array:
        """Rows [..., K] -> sum over the codebooks, [..., C]; of a step, [K] -> [1, C]."""
        joined = self._joined.plus(None, self.emb, rows.flatten() if rows.ndim == 2 else rows)
        found = self.emb(rows) if joined is None else joined.reshape(*rows.shape, -1)
        return found.sum(axis=-2, keepdims=rows.ndim == 1)
