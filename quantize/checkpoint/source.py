"""A checkpoint's tensors, memory-mapped: nothing is read before it is asked for, row by row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.errors import WeightsError
from moshi_mlx.tensor_files.header import read_header
from moshi_mlx.weights.finite import all_finite

from .entries import Entry

# safetensors' dtype -> numpy's; bf16 has none and comes as its bits
FLOATS = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


@dataclass(frozen=True)
class Mapped:
    """One tensor in its file. `values`: a read-only view, bf16 as uint16."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray

    def check_finite(self, values: np.ndarray) -> None:
        """Raises WeightsError that names the tensor if `values` (rows of it) aren't all finite."""
        if not all_finite(values, self.dtype):
            raise WeightsError(
                f"{self.name} of the source is damaged: it holds values that are not finite; "
                "fetch the model again"
            )


class Source:
    """All tensors of one or several safetensors files. Raises WeightsError."""

    def __init__(self, paths: list[Path]) -> None:
        self.tensors: dict[str, Mapped] = {}
        self.metadata: dict[str, str] = {}
        self.num_bytes = sum(path.stat().st_size for path in paths)
        for path in paths:
            tensors, metadata = _mapped(path)
            if twice := sorted(set(tensors) & set(self.tensors)):
                raise WeightsError(f"{path}: {twice[0]} is in two shards; fetch them again")
            self.tensors |= tensors
            self.metadata |= metadata

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def row_blocks(self, entry: Entry, max_bytes: int) -> Iterator[tuple[Mapped, np.ndarray]]:
        """The entry's rows in order, in blocks of at most `max_bytes` (but a row at least)."""
        for piece in entry.pieces:
            tensor = self.tensors[piece.source]
            rows = tensor.values[piece.start : piece.stop]
            if len(entry.shape) < 2:
                yield tensor, rows.reshape(entry.shape)
                continue
            row_bytes = max(1, rows[:1].nbytes)
            step = max(1, max_bytes // row_bytes)
            for start in range(0, len(rows), step):
                yield tensor, rows[start : start + step]


def float32(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rows of a mapped tensor as numbers."""
    if dtype == "BF16":
        return (values.astype("<u4") << 16).view("<f4")
    return values.astype("<f4")


def _mapped(path: Path) -> tuple[dict[str, Mapped], dict[str, str]]:
    """The tensors of a file and its metadata. Raises WeightsError."""
    header = read_header(path)
    data = np.zeros(0, np.uint8)
    if path.stat().st_size > header.data_start:
        data = np.memmap(path, np.uint8, "r", offset=header.data_start)
    found = {}
    for name, at in header.tensors.items():
        if at.dtype == "U32":
            raise WeightsError(
                f"{path} is quantized already ({name} is packed): start from the bf16 checkpoint"
            )
        if at.dtype not in FLOATS:
            raise WeightsError(
                f"{path}: {name} is {at.dtype}; bf16, fp16 or fp32 weights are needed"
            )
        values = data[at.start : at.stop].view(FLOATS[at.dtype]).reshape(at.shape)
        found[name] = Mapped(name, at.dtype, at.shape, values)
    return found, header.metadata
