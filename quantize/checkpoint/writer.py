"""A safetensors file written front to back: the header first, then each tensor as it is made.

Every shape is known beforehand, so the header is too. What an interrupted run has written can be
kept: a file that starts with the same header is continued after its last whole tensor.
"""

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moshi_mlx.tensor_files.header import ITEM_BYTES


@dataclass(frozen=True)
class Slot:
    """One tensor's place: dtype in safetensors' spelling, shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * prod(self.shape)


def header_of(slots: Mapping[str, Slot], metadata: Mapping[str, str]) -> bytes:
    """Length prefix and JSON, padded to 8 bytes, tensors in the order of `slots`."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, slot in slots.items():
        end = offset + slot.num_bytes
        entries[name] = {
            "dtype": slot.dtype,
            "shape": list(slot.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class StreamingWriter:
    """Takes the tensors of `slots` in order; `done` are those an earlier run has written."""

    def __init__(self, file: BinaryIO, slots: Mapping[str, Slot], done: list[str]) -> None:
        self._file, self._slots, self.done = file, dict(slots), done
        self.left = list(slots)[len(done) :]

    def write(self, name: str, *blocks: np.ndarray) -> None:
        """The next tensor in blocks of rows, its bytes as they are (bf16 comes as uint16)."""
        expected = self.left.pop(0)
        slot = self._slots[name]
        rows = [sum(block.shape[0] for block in blocks)] if blocks[0].ndim else []
        shape, size = (*rows, *blocks[0].shape[1:]), sum(block.nbytes for block in blocks)
        if name != expected or shape != slot.shape or size != slot.num_bytes:
            raise ValueError(f"{name} {shape} written where {expected} {slot} belongs")
        for block in blocks:
            self._file.write(np.ascontiguousarray(block).data)


@contextmanager
def writing(
    path: Path, slots: Mapping[str, Slot], metadata: Mapping[str, str]
) -> Iterator[StreamingWriter]:
    """Begin `path`, or go on with what a run with the same header left; on the disk at the end."""
    header = header_of(slots, metadata)
    done = _whole_tensors(path, header, slots)
    start = len(header) + sum(slots[name].num_bytes for name in done)
    with open(path, "r+b" if done else "w+b") as file:
        file.write(header)
        file.truncate(start)
        file.seek(start)
        writer = StreamingWriter(file, slots, done)
        yield writer
        if writer.left:
            raise ValueError(f"{len(writer.left)} tensors were never written")
        file.flush()
        os.fsync(file.fileno())


def _whole_tensors(path: Path, header: bytes, slots: Mapping[str, Slot]) -> list[str]:
    """Names of the tensors that `path` holds already; none if it was begun for another run."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        if file.read(len(header)) != header:
            return []
    room, done = path.stat().st_size - len(header), []
    for name, slot in slots.items():
        if slot.num_bytes > room:
            break
        room -= slot.num_bytes
        done.append(name)
    return done
