"""Weights that are no numbers: noticed while loading by samples, anywhere by reading all."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..errors import WeightsError
from ..tensor_files.header import ITEM_BYTES, TensorEntry, read_header

SAMPLES = 4096  # of a tensor; smaller ones (norms, scales of small layers) are looked at whole
# +infinity in bits. Finite values lie below it as signed integers, and below it with the sign's bit
# set as unsigned ones: two reductions, nothing allocated.
INFINITY = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F80_0000}
MX_NAN = 0xFF  # in the scales of the microscaling formats, powers of two and E4M3 alike
BLOCK_ITEMS = 1 << 24


def check_samples(tensors: Mapping[str, mx.array], path: str) -> None:
    """Raises WeightsError naming a tensor that holds NaN or infinity where it was looked at.

    Some thousand values of each tensor, spread over it: no measurable part of loading.
    What they miss `Moshi.warm_up` notices, and `damaged` finds.
    """
    names = [name for name, t in tensors.items() if t.size and mx.issubdtype(t.dtype, mx.floating)]
    good = [mx.isfinite(_spread(tensors[name])).all() for name in names]
    mx.eval(good)
    for name, fine in zip(names, good, strict=True):
        if not fine.item():
            raise _damaged(name, path)


@dataclass(frozen=True)
class Damage:
    """A tensor of which `count` values are NaN or infinite."""

    path: Path
    name: str
    count: int


def damaged(
    paths: Iterable[Path], progress: Callable[[int], object] = lambda num_bytes: None
) -> Iterator[Damage]:
    """Every tensor of safetensors files that holds a value that isn't finite, all of them read.

    Block by block, memory-mapped. Raises WeightsError for a file that can't be read.
    """
    for path in paths:
        header = read_header(path)
        for name, at in header.tensors.items():
            scales = at.dtype == "U8" and name.endswith(".scales")
            if at.start < at.stop and (scales or at.dtype in INFINITY):
                count = sum(
                    _count(block, at.dtype) for block in _blocks(path, header.data_start, at)
                )
                if count:
                    yield Damage(path, name, count)
            progress(at.num_bytes)


def _blocks(path: Path, data_start: int, at: TensorEntry) -> Iterator[np.ndarray]:
    size = ITEM_BYTES[at.dtype]
    items = at.num_bytes // size
    bits = np.memmap(path, f"<u{size}", "r", offset=data_start + at.start, shape=(items,))
    for start in range(0, items, BLOCK_ITEMS):
        yield bits[start : start + BLOCK_ITEMS]


def _count(bits: np.ndarray, dtype: str) -> int:
    """How many of these aren't finite."""
    if dtype == "U8":
        return int(np.count_nonzero(bits == MX_NAN))
    if all_finite(bits, dtype):
        return 0
    return int(np.count_nonzero((bits & INFINITY[dtype]) == INFINITY[dtype]))


def all_finite(values: np.ndarray, dtype: str) -> bool:
    """Whether floating point `values` (or their bits), in safetensors' `dtype`, are all finite."""
    size, infinity = values.itemsize, INFINITY[dtype]
    signed, unsigned = (values.view(np.dtype(f"<{kind}{size}")) for kind in "iu")
    sign = 1 << (8 * size - 1)
    return bool(signed.max(initial=0) < infinity and unsigned.max(initial=0) < sign + infinity)


def _spread(tensor: mx.array) -> mx.array:
    """About SAMPLES values at even distances that no row's width divides."""
    step = max(1, tensor.size // SAMPLES)
    return tensor.reshape(-1)[:: step + (step > 1 and step % 2 == 0)]


def _damaged(name: str, path: str) -> WeightsError:
    return WeightsError(
        f"{path} is damaged: {name} holds values that are not finite; fetch the model again"
    )
