"""The header of a safetensors file: which tensors lie where, without reading any of them.

Eight bytes of length, that many bytes of JSON, then the tensors' bytes without gaps
(github.com/huggingface/safetensors, "Format").
"""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import WeightsError

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
ITEM_BITS = {  # safetensors' dtype -> bits of an element
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8},
    **{"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32},
    **{"U64": 64, "I64": 64, "F64": 64},
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: dtype in safetensors' spelling, and its bytes `start` to `stop` of the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Header:
    """`data_start`: where in the file the tensors' bytes begin."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """The checked header: the file holds exactly the bytes that it promises.

    MLX and numpy read lazily, so a truncated file would fail in the middle of a conversation
    otherwise. Raises WeightsError for a file that is missing, unreadable or damaged.
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; check the path, or fetch the model again")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise _damaged(path, "it has no safetensors header")
            text = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path} can't be read ({error.strerror})") from None
    try:
        raw = json.loads(text)
        metadata = raw.pop("__metadata__", None) or {}  # MLX writes null
        tensors = {name: _entry(path, name, entry) for name, entry in raw.items()}
        metadata = {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(path, "its safetensors header can't be read") from None
    if strange := next((name for name in tensors if not name.isprintable()), None):
        raise _damaged(path, f"a tensor is called {strange!r}")
    have, end = size - 8 - length, max((entry.stop for entry in tensors.values()), default=0)
    if have != end:
        raise _damaged(path, f"it holds {have} bytes of tensors, should hold {end}")
    return Header(tensors, metadata, 8 + length)


def _entry(path: Path, name: str, raw: Any) -> TensorEntry:
    dtype, shape, (start, stop) = raw["dtype"], tuple(raw["shape"]), raw["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
        raise ValueError
    if dtype in ITEM_BITS and (stop - start) * 8 != prod(shape) * ITEM_BITS[dtype]:
        raise _damaged(path, f"{name} has {stop - start} bytes, which its shape does not fit")
    return TensorEntry(str(dtype), shape, start, stop)


def _damaged(path: Path, how: str) -> WeightsError:
    return WeightsError(f"{path} is damaged: {how}; fetch it again")
