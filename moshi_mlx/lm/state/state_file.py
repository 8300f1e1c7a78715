"""A safetensors file of tensors and facts, written whole or not at all, read without trust.

The facts are one JSON object in the file's metadata. Whoever reads says which tensors there are,
their shapes and types; nothing is loaded before the header agrees, and no other may be in it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...config.json_file import parse_json_object
from ...errors import MoshiError, WeightsError
from ...output.whole_file import OutputError, whole_files
from ...tensor_files.header import TensorEntry, read_header
from ...tensor_files.reading import read_safetensors
from ...tensor_files.writing import GivenUpError, HostTensor, write_tensors
from ..model_digest import bytes_of_all
from .other_files import OtherFileError, check_beginning, kind_of

FACTS = "moshi-local"  # the name of the metadata's entry
VERSION = 1  # of what the tensors mean: one more with every change of a step's arithmetic
DTYPES = {
    **{mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"},
    **{mx.int32: "I32", mx.uint32: "U32", mx.uint8: "U8"},
}


class MisfitError(Exception):
    """What in a state's file can't be."""


@dataclass(frozen=True)
class StateWriter:
    """A state on its way into a file: host memory alone, so that any thread may write it.

    facts: asked for by the thread that writes; private: the file is its owner's alone (0600).
    """

    kind: str
    tensors: dict[str, HostTensor]
    facts: Callable[[], Mapping[str, Any]]
    private: bool = False

    def write(self, path: str | Path, go_on: Callable[[], bool] = lambda: True) -> None:
        """The whole file, or none. Raises OutputError, also once `go_on` says no."""
        path = Path(path)
        text = json.dumps({"version": VERSION, "kind": self.kind, **self.facts()})
        with whole_files(path, private=self.private) as (temporary,), temporary.open("wb") as file:
            try:
                write_tensors(file, self.tensors, {FACTS: text}, go_on)
            except GivenUpError:
                raise OutputError(f"{path} wasn't written: there was no time for it") from None


def host_tensors(arrays: Mapping[str, mx.array]) -> dict[str, HostTensor]:
    """Arrays where the host can read them, without a copy on a machine with one memory."""
    data = bytes_of_all(list(arrays.values()))
    return {
        name: HostTensor(DTYPES[array.dtype], tuple(array.shape), found)
        for (name, array), found in zip(arrays.items(), data, strict=True)
    }


@dataclass
class StateFile:
    """A file that is being read: facts, and tensors until they are taken."""

    path: Path
    facts: dict[str, Any]
    entries: dict[str, TensorEntry]
    arrays: dict[str, mx.array]
    taken: set[str] = field(default_factory=set)

    def fact(self, name: str, kind: type = str) -> Any:
        """A fact of just this type. Raises MisfitError."""
        value = self.facts.get(name)
        if type(value) is not kind:
            raise MisfitError(f"its {name} is not one")
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`. Raises MisfitError."""
        value = self.fact(name, int)
        if not low <= value <= high:
            raise MisfitError(f"its {name} is out of range")
        return value

    def take(self, name: str, shape: tuple[int | None, ...], dtype: mx.Dtype) -> mx.array:
        """A tensor, not loaded yet; None in `shape`: any length but 0. Raises MisfitError."""
        entry = self.entries.get(name)
        if entry is None:
            raise MisfitError(f"it lacks {name}")
        fits = len(entry.shape) == len(shape) and all(
            have == want or (want is None and have)
            for have, want in zip(entry.shape, shape, strict=True)
        )
        if not fits or entry.dtype != DTYPES[dtype]:
            raise MisfitError(f"{name} has another shape or type")
        self.taken.add(name)
        return self.arrays[name]

    def take_tokens(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """A tensor of int32, on the host. Raises MisfitError."""
        return np.array(self.take(name, shape, mx.int32))

    def finish(self) -> None:
        """Raises MisfitError where something wasn't taken."""
        if self.entries.keys() - self.taken:
            raise MisfitError("it holds tensors that there is no use for")


def read_state(path: Path, kind: str) -> StateFile:
    """The file's header and facts. Raises OtherFileError for one of another kind, MoshiError for
    one of another version, and for a damaged one."""
    check_beginning(path)
    try:
        header = read_header(path)
        if FACTS not in header.metadata:
            raise OtherFileError(path, kind_of(header.tensors))
        text = header.metadata[FACTS].encode("utf-8", "replace")
        facts = parse_json_object(text, f"{path}, its facts,", MoshiError, "choose another file")
        arrays = read_safetensors(path)
    except WeightsError as error:
        what = str(error).removeprefix(f"{path} ").removesuffix("; fetch it again")
        raise MoshiError(f"{path} can't be gone on from: it {what}; choose another file") from None
    if facts.get("version") != VERSION:
        raise MoshiError(
            f"{path} was written by another version of this program; make it anew with this one"
        )
    if facts.get("kind") != kind:
        raise OtherFileError(path, str(facts.get("kind")))
    return StateFile(path, facts, header.tensors, arrays)


def misfit(path: Path, error: MisfitError) -> MoshiError:
    return MoshiError(f"{path} can't be gone on from: {error}; it is damaged, make it anew")
