"""Weights that are no numbers: noticed while loading by samples, anywhere by reading all."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..errors import WeightsError
from ..tensor_files.header import read_header

SAMPLES = 4096  # of a tensor; smaller ones (norms, scales of small layers) are looked at whole
# +infinity in bits. Finite values lie below it as signed integers, and below it with the sign's bit
# set as unsigned ones: two reductions, nothing allocated.
INFINITY = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F80_0000}
BLOCK_ITEMS = 1 << 24


def check_samples(tensors: Mapping[str, mx.array], path: str) -> None:
    """Raises WeightsError naming a tensor that holds NaN or infinity where it was looked at.

    Some thousand values of each tensor, spread over it: no measurable part of loading.
    """
    names = [name for name, t in tensors.items() if t.size and mx.issubdtype(t.dtype, mx.floating)]
    good = [mx.isfinite(_spread(tensors[name])).all() for name in names]
    mx.eval(good)
    for name, fine in zip(names, good, strict=True):
        if not fine.item():
            raise _damaged(name, path)


def check_all(paths: Iterable[Path]) -> int:
    """Every value of safetensors files, block by block; returns how many. Raises WeightsError."""
    count = 0
    for path in paths:
        header = read_header(path)
        for name, at in header.tensors.items():
            if at.dtype not in INFINITY or at.start == at.stop:
                continue
            size = (at.stop - at.start) // int(np.prod(at.shape, dtype=np.int64))
            bits = np.memmap(
                path,
                np.dtype(f"<u{size}"),
                "r",
                offset=header.data_start + at.start,
                shape=((at.stop - at.start) // size,),
            )
            for start in range(0, len(bits), BLOCK_ITEMS):
                if not all_finite(bits[start : start + BLOCK_ITEMS], at.dtype):
                    raise _damaged(name, str(path))
            count += len(bits)
    return count


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
