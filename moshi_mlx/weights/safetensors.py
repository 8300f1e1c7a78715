"""Weight files: a checked safetensors reader, PyTorch -> MLX layout, all tensors accounted.

Shapes: D width. Formats: Kyutai's MLX layout (`names.expected`) and PyTorch layout.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import mlx.core as mx

from ..config.lm_config import LmConfig
from ..errors import WeightsError, suggest
from .formats import Quantization, read_quantization
from .tensor_names import expected, is_pytorch_layout, source_of

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


def read_safetensors(path: str | Path) -> dict[str, mx.array]:
    """All tensors of a safetensors file, read lazily. Raises WeightsError."""
    path = Path(path)
    check_safetensors(path)
    try:
        arrays = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"{path} can't be read ({error}); fetch it again") from error
    assert isinstance(arrays, dict)
    return arrays


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


def check_safetensors(path: Path) -> dict[str, dict]:
    """The header (name -> dtype, shape, data_offsets); WeightsError if missing or damaged.

    MLX reads lazily, so a truncated file would fail in the middle of a conversation otherwise.
    """
    damaged = f"{path} is damaged: {{}}; fetch it again"
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; check the path, or fetch the model again")
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 2 <= length <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
                raise WeightsError(damaged.format("it has no safetensors header"))
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except OSError as error:
        raise WeightsError(f"{path} can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise WeightsError(damaged.format("its safetensors header can't be read")) from None
    if strange := next((name for name in header if not name.isprintable()), None):
        raise WeightsError(damaged.format(f"a tensor is called {strange!r}"))
    have = path.stat().st_size - 8 - length
    if have != end:
        raise WeightsError(damaged.format(f"it holds {have} bytes of tensors, should hold {end}"))
    return header


def to_mlx_layout(
    tensors: Mapping[str, mx.array], config: LmConfig, path: str
) -> dict[str, mx.array]:
    """Tensors in either layout -> Kyutai's MLX layout; every tensor used. Raises WeightsError."""
    if not is_pytorch_layout(set(tensors)):
        return dict(tensors)
    used: set[str] = set()
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
) -> dict[str, Quantization]:
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
    quantized: dict[str, Quantization] = {}
    known = set(shapes)
    for name, shape in shapes.items():
        layer, tensor = name.removesuffix(".weight"), tensors[name]
        if f"{layer}.scales" in tensors and name.endswith(".weight") and len(shape) == 2:
            quantized[layer] = read_quantization(layer, tensors, shape, path)
            known |= {f"{layer}.scales", f"{layer}.biases"}
        elif tensor.shape != shape:
            raise WeightsError(
                f"{path}: {name} has shape {list(tensor.shape)}, the config asks for {list(shape)}"
            )
        elif not mx.issubdtype(tensor.dtype, mx.floating):
            raise WeightsError(f"{path}: {name} holds {tensor.dtype}, not floating point weights")
    check_names(set(tensors), known, path)
    return quantized
