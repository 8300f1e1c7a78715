"""A source with an adapter: its rows come merged, so that whatever reads them sees one model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.lora import Adapter

from .entries import Entry
from .source import Mapped, Source, float32


class AdaptedSource(Source):
    """As Source; rows that the adapter changes are computed in float32 when they are asked for."""

    def __init__(self, paths: list[Path], adapter: Adapter) -> None:
        """The adapter is checked against the model already. Raises WeightsError for the paths."""
        super().__init__(paths)
        self._adapter = adapter

    def row_blocks(self, entry: Entry, max_bytes: int) -> Iterator[tuple[Mapped, np.ndarray]]:
        whole = self._adapter.whole.get(entry.name)
        if whole is not None:
            rows = np.array(whole.astype(mx.float32))
            yield Mapped(entry.name, "F32", rows.shape, rows), rows
            return
        pair = self._adapter.pairs.get(entry.module)
        if pair is None:
            yield from super().row_blocks(entry, max_bytes)
            return
        a, b, start = np.array(pair.a), np.array(pair.b), 0
        for tensor, rows in super().row_blocks(entry, max_bytes):
            merged = float32(rows, tensor.dtype) + b[start : start + len(rows)] @ a
            start += len(rows)
            yield replace(tensor, dtype="F32"), merged
