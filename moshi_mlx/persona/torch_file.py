"""A torch `.pt` of plain tensors, read without torch and without running anything in it.

A pickle can call any function. This reader knows the three that rebuild tensors and refuses all
others; sizes and offsets are checked before an array is made of them.
Source: PyTorch `torch/serialization.py` (the zip format), `torch/_utils.py`.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WeightsError

FILE_MAX_BYTES = 64 << 20
ENTRIES_MAX = 1000
PICKLE_MAX_BYTES = 1 << 20  # it says what the tensors are; their numbers lie beside it
# torch's storage classes -> numpy's types; bfloat16 has none and is widened
STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
MEMO_WRITES = {"PUT", "BINPUT", "LONG_BINPUT"}
Load = Callable[[str, str, int], np.ndarray]


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` made of a dict: name -> array, bfloat16 as float32.

    Raises WeightsError for anything else, and for what is damaged or larger than 64 MB.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            found = _Unpickler(*_opened(file)).load()
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is no zip file"
        raise WeightsError(f"{path} can't be read as a torch file ({reason})") from None
    except Exception as error:  # a hostile pickle can make its reader raise whatever it likes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{path} is no torch file of plain tensors ({reason})") from None
    tensors = isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(array, np.ndarray) for name, array in found.items()
    )
    if not tensors:
        raise WeightsError(f"{path} is no torch file of plain tensors: it must hold a dict of them")
    return found


def _opened(file: zipfile.ZipFile) -> tuple[bytes, Load]:
    """The pickle in a torch zip, and what loads a storage beside it."""
    entries = file.infolist()
    if len(entries) > ENTRIES_MAX or sum(entry.file_size for entry in entries) > FILE_MAX_BYTES:
        raise ValueError("it is larger than any voice")
    roots = [
        e.filename.removesuffix("data.pkl") for e in entries if e.filename.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise ValueError("it has no data.pkl")
    root, names = roots[0], {entry.filename for entry in entries}
    if f"{root}byteorder" in names and file.read(f"{root}byteorder") != b"little":
        raise ValueError("it is not little endian")

    def load(kind: str, key: str, count: int) -> np.ndarray:
        raw = file.read(f"{root}data/{key}")
        numbers = np.frombuffer(
            raw, STORAGES[kind], count=len(raw) // np.dtype(STORAGES[kind]).itemsize
        )
        if not 0 <= count <= len(numbers):
            raise ValueError(f"storage {key} is too short")
        if kind == "BFloat16Storage":
            return (numbers[:count].astype("<u4") << 16).view("<f4")
        return numbers[:count]

    if file.getinfo(f"{root}data.pkl").file_size > PICKLE_MAX_BYTES:
        raise ValueError("its data.pkl is larger than any voice's")
    return _bounded(file.read(f"{root}data.pkl")), load


def _bounded(pickled: bytes) -> bytes:
    """The pickle, if its memo has no more places than it has bytes.

    The unpickler allocates every place up to the greatest index in it: 32 GB for five bytes.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in MEMO_WRITES and not 0 <= (argument or 0) < len(pickled):
            raise ValueError("its memo is larger than itself")
    return pickled


class _Kind(str):
    """The name of a storage class, in place of the class."""


class _Rebuild:
    """Calls `_rebuilt`; a pickle can set attributes of what it is given, and this has none."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> np.ndarray:
        return _rebuilt(*arguments)


class _Unpickler(pickle.Unpickler):
    """Knows how tensors are rebuilt, and nothing else."""

    def __init__(self, data: bytes, load: Load) -> None:
        super().__init__(io.BytesIO(data))
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in STORAGES:
            return _Kind(name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in it")

    def persistent_load(self, pid: Any) -> np.ndarray:
        tag, kind, key, _device, count = pid
        if tag != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str):
            raise pickle.UnpicklingError("it refers to something that is no storage")
        return self._load(str(kind), key, int(count))


def _rebuilt(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    hooks: Mapping | None = None,
    metadata: Mapping | None = None,
) -> np.ndarray:
    """torch's tensor of a storage: checked to lie within it, copied out of it."""
    if not isinstance(storage, np.ndarray) or len(size) != len(stride) or len(size) > 8:
        raise ValueError("a tensor is not well formed")
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor has negative sizes")
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else -1
    if math.prod(size) > storage.size or offset + last + 1 > storage.size:
        raise ValueError("a tensor reaches outside its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()
