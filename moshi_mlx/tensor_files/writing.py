"""Tensors in host memory, and a safetensors file of them: nothing here asks MLX, so any thread may.

What is made on the thread that has the model can be written on another, while the model goes on.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

PIECE_BYTES = 1 << 24  # how often a writing asks whether to go on


class GivenUpError(Exception):
    """Whoever began to write doesn't want the file any more."""


@dataclass(frozen=True)
class HostTensor:
    """dtype: as safetensors names it ("BF16"); data: its bytes, uint8 [n]."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray


def write_tensors(
    file: BinaryIO,
    tensors: Mapping[str, HostTensor],
    metadata: Mapping[str, str],
    go_on: Callable[[], bool],
) -> None:
    """A whole safetensors file, piece by piece.

    Raises OSError, and GivenUpError once `go_on` says no.
    """
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.data.nbytes
        entries[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps({"__metadata__": dict(metadata), **entries}).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        for at in range(0, tensor.data.nbytes, PIECE_BYTES):
            if not go_on():
                raise GivenUpError
            file.write(tensor.data[at : at + PIECE_BYTES].data)
