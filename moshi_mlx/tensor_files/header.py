"""The header of a safetensors file, every claim in it checked before anything relies on it.

Format: eight bytes of length, JSON (name -> dtype, shape, data_offsets), then the tensors without
a gap (github.com/huggingface/safetensors).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from ..config.file_kinds import mistaken_for
from ..config.json_file import MAX_BYTES, parse_json_object, shown
from ..errors import ConfigError, WeightsError

ITEM_BYTES = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2},
    **{"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8},
}
# What others store and no model here computes in: told by name, with what to do.
REFUSED = {
    "F64": "float64",
    "F8_E4M3": "8-bit floating point",
    "F8_E5M2": "8-bit floating point",
    "F8_E8M0": "8-bit floating point",
    "F4": "4-bit floating point",
}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: `start` and `stop` count from the first byte behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Header:
    """All tensors of a file, its metadata, and the byte at which the tensors begin."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """Raises WeightsError for a file that is missing, cut short, damaged or something else."""
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; check the path, or fetch the model again")
    try:
        with path.open("rb") as file:
            return _read(file, path, path.stat().st_size)
    except OSError as error:
        raise WeightsError(f"{path} can't be read ({error.strerror})") from None


def _read(file: BinaryIO, path: Path, size: int) -> Header:
    start = file.read(32)
    begins = start[8:9] == b"{"  # a length of 640 reads like a pickle's first bytes
    if not begins and (other := mistaken_for(start)) is not None:
        raise WeightsError(f"{path} is not a safetensors file but {other}")
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if not 2 <= length <= min(size - 8, MAX_BYTES):
        raise WeightsError(
            f"{path} is not a safetensors file, or is damaged: it has no safetensors header; "
            "fetch it again"
        )
    file.seek(8)
    try:
        raw = parse_json_object(file.read(length), "its safetensors header")
    except ConfigError as error:
        raise WeightsError(f"{path} is damaged: {error}") from None
    metadata = raw.pop("__metadata__", None)
    if metadata is None:  # MLX writes null
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "its metadata are no texts")
    tensors = {name: _entry(name, entry, path) for name, entry in raw.items()}
    _check_places(tensors, path, size - 8 - length)
    return Header(tensors, metadata, 8 + length)


def _entry(name: str, entry: Any, path: Path) -> TensorEntry:
    at = f"the entry of {shown(name)}"
    if not isinstance(entry, Mapping):
        raise _damaged(path, f"{at} is {shown(entry)}")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if isinstance(dtype, str) and dtype in REFUSED:
        raise WeightsError(
            f"{path} holds {REFUSED[dtype]} weights ({name} is {dtype}): convert them to bfloat16, "
            "or fetch the model as bf16"
        )
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _damaged(path, f"{at} has the dtype {shown(dtype)}")
    sizes, places = _counts(shape), _counts(offsets)
    if sizes is None or places is None or len(places) != 2:
        raise _damaged(path, f"{at} has the shape {shown(shape)} at {shown(offsets)}")
    start, stop = places
    if stop - start != ITEM_BYTES[dtype] * prod(sizes):
        raise _damaged(
            path, f"{at} has {stop - start} bytes, which {dtype} {shown(shape)} does not take"
        )
    return TensorEntry(dtype, sizes, start, stop)


def _check_places(tensors: Mapping[str, TensorEntry], path: Path, have: int) -> None:
    """One behind the other, up to the file's end: what is cut short is seen before it is read."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            raise _damaged(path, f"the entry of {shown(name)} overlaps another, or leaves a gap")
        end = tensor.stop
    if have < end:
        last = next(name for name, tensor in tensors.items() if tensor.stop > have)
        raise _damaged(
            path, f"it holds {have} bytes of tensors, should hold {end}, and is cut short in {last}"
        )
    if have > end:
        raise _damaged(path, f"it holds {have} bytes of tensors, should hold {end}")


def _counts(value: Any) -> tuple[int, ...] | None:
    """Whole numbers from 0 up, few and of a size that a file can have; None for anything else."""
    if not isinstance(value, list) or len(value) > 16:
        return None
    good = all(type(item) is int and 0 <= item < 2**63 for item in value)
    return tuple(value) if good else None


def _damaged(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path} is damaged: {what}; fetch it again")
