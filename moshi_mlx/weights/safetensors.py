"""Weight files: a checked safetensors reader, PyTorch -> MLX layout, all tensors accounted.

Shapes: D width. Formats: Kyutai's MLX layout (`names.expected`) and PyTorch layout.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import mlx.core as mx

from ..config.lm_config import LmConfig
from ..errors import WeightsError, suggest
from ..tensor_files.reading import read_safetensors
from .formats import read_format
from .recipes import Format
from .tensor_names import dropped, expected, is_pytorch_layout, source_of


def read_all(paths: Iterable[Path]) -> dict[str, mx.array]:
    """The tensors of one file or of all shards of a model, lazily. Raises WeightsError."""
    tensors: dict[str, mx.array] = {}
    for path in paths:
        shard = read_safetensors(path)
        if twice := sorted(set(shard) & set(tensors)):
            raise WeightsError(f"{path}: {twice[0]} is in two shards; fetch them again")
        tensors |= shard
    return tensors


def read_now(tensors: Iterable[mx.array]) -> None:
    """Read lazy tensors from the disk, alone: before anything that a GPU computes of them.

    macOS ends a process whose GPU commands wait long for what isn't there yet, such as tensors on
    a slow disk; reading is the CPU's work, and no command is submitted until it is done.
    """
    mx.eval(list(tensors))


def to_mlx_layout(
    tensors: Mapping[str, mx.array], config: LmConfig, path: str
) -> dict[str, mx.array]:
    """Tensors in either layout -> Kyutai's MLX layout; every tensor used. Raises WeightsError."""
    used = dropped(config)
    if not is_pytorch_layout(set(tensors)):
        layers = {name.removesuffix(".weight") for name in used}
        return {n: t for n, t in tensors.items() if n.rpartition(".")[0] not in layers}
    found = {}
    for name, shape in expected(config).items():
        for source, parts, part in source_of(name, config).names:
            if source not in tensors:
                continue
            used.add(source)
            tensor = tensors[source]
            if parts > 1:
                rows = tensor.shape[0] // parts
                tensor = tensor[part * rows : (part + 1) * rows]
            found[name] = tensor.flatten() if tensor.shape == (1, 1, *shape) else tensor
            break
    check_names(set(tensors), used, path)
    return found


def check_names(have: set[str], known: set[str], path: str) -> None:
    """WeightsError that names tensors nobody asked for."""
    if unknown := sorted(have - known):
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        names = ", ".join(suggest(name, sorted(known)) for name in unknown[:3])
        raise WeightsError(f"{path} has tensors that the config does not name: {names}{more}")


def check_tensors(
    tensors: Mapping[str, mx.array], shapes: Mapping[str, tuple[int, ...]], path: str
) -> dict[str, Format]:
    """Check every tensor of an MLX layout file against the config; returns layer -> quantization.

    A layer is quantized exactly when the file holds its scales. Raises WeightsError for missing,
    unknown and misshapen tensors, and for dtypes that are no weights.
    """
    if missing := sorted(set(shapes) - set(tensors)):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        names = ", ".join(missing[:3])
        raise WeightsError(
            f"{path} lacks {names}{more}: it does not fit its config.json; fetch both again"
        )
    quantized: dict[str, Format] = {}
    known = set(shapes)
    for name, shape in shapes.items():
        layer, tensor = name.removesuffix(".weight"), tensors[name]
        if f"{layer}.scales" in tensors and name.endswith(".weight") and len(shape) == 2:
            quantized[layer] = read_format(layer, tensors, shape, path)
            known |= {f"{layer}.scales", f"{layer}.biases"}
        elif tensor.shape != shape:
            raise WeightsError(
                f"{path}: {name} has shape {list(tensor.shape)}, the config asks for {list(shape)}"
            )
        elif not mx.issubdtype(tensor.dtype, mx.floating):
            raise WeightsError(f"{path}: {name} holds {tensor.dtype}, not floating point weights")
    check_names(set(tensors), known, path)
    return quantized
