"""How far a model's weights are from the original's, one tensor in memory at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.model_files import weight_paths
from moshi_mlx.config.reading import read_config
from moshi_mlx.weights.formats import dequantize, read_format
from moshi_mlx.weights.safetensors import read_all, to_mlx_layout

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.convert import BLOCK_BYTES
from ..checkpoint.entries import Entry, entries_of
from ..errors import QuantizeError
from ..recipe.rounding import to_mlx


@dataclass(frozen=True)
class LayerError:
    """One tensor of both models. relative_error: |B - A| / |A|, Euclidean norms."""

    name: str
    format: str
    num_weights: int
    num_bytes: int
    relative_error: float


def layer_errors(
    original: Checkpoint,
    other: Path,
    progress: Callable[[int], object] = lambda num_weights: None,
) -> list[LayerError]:
    """Every tensor of `original` against the folder `other`, in the order of the file.

    Raises QuantizeError for models that don't fit each other, WeightsError for damaged files.
    """
    path = str(original.folder / original.names["weights"])
    entries = entries_of(original.source.shapes, original.config, path)
    tensors = tensors_of(other, original)
    found = []
    for entry in entries:
        found.append(_layer(original, entry, tensors, other))
        parts = (f"{entry.module}.{part}" for part in ("scales", "biases"))
        for name in (entry.name, *parts):
            tensors.pop(name, None)  # frees it; a norm's weight and bias are entries of their own
        progress(found[-1].num_weights)
    return found


def tensors_of(other: Path, original: Checkpoint) -> dict[str, mx.array]:
    """Lazy tensors in Kyutai's MLX layout."""
    tensors = read_all(weight_paths(other, read_config(other)))
    if isinstance(original.config, LmConfig):
        return to_mlx_layout(tensors, original.config, str(other))
    return tensors


def _layer(
    original: Checkpoint, entry: Entry, tensors: Mapping[str, mx.array], other: Path
) -> LayerError:
    if entry.name not in tensors:
        raise QuantizeError(
            f"{other} and {original.label} are different models: the former lacks {entry.name}"
        )
    values, said, num_bytes = restored(entry, tensors, other)
    if values.shape != entry.shape:
        raise QuantizeError(
            f"{other} and {original.label} are different models: {entry.name} has the shape "
            f"{list(values.shape)} and {list(entry.shape)}"
        )
    off = norm = 0.0
    start = 0
    for tensor, block in original.source.row_blocks(entry, BLOCK_BYTES):
        tensor.check_finite(block)
        rows = to_mlx(block, tensor.dtype).astype(mx.float32)
        there = values if rows.shape == values.shape else values[start : start + len(rows)]
        start += len(rows)
        difference = mx.square(there.astype(mx.float32) - rows).sum()
        off, norm = off + float(difference), norm + float(mx.square(rows).sum())
    return LayerError(
        entry.name,
        said,
        int(np.prod(entry.shape)),
        num_bytes,
        (off / norm) ** 0.5 if norm else float(off > 0),
    )


def restored(
    entry: Entry, tensors: Mapping[str, mx.array], other: Path
) -> tuple[mx.array, str, int]:
    """Lazy values, the format's name, bytes."""
    weight = tensors[entry.name]
    if f"{entry.module}.scales" not in tensors or len(entry.shape) != 2:
        return weight, str(weight.dtype).rpartition(".")[2], weight.nbytes
    chosen = read_format(entry.module, tensors, (weight.shape[0], entry.shape[1]), str(other))
    names = (f"{entry.module}.{part}" for part in ("weight", "scales", "biases"))
    parts = tuple(tensors[name] for name in names if name in tensors)
    return dequantize(parts, chosen), str(chosen), sum(part.nbytes for part in parts)
