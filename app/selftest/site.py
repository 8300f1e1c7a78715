"""Where the self-test computes: the device under test, and the CPU beside it as a judge."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.backend.compiler import can_compile, uncompiled
from moshi_mlx.backend.device import on_gpu

DTYPES = {"fp32": mx.float32, "fp16": mx.float16, "bf16": mx.bfloat16}


@dataclass(frozen=True)
class Site:
    """`on_gpu`: whether what only a GPU does is done and looked at; `compiles`: whether MLX can."""

    device: mx.Device
    on_gpu: bool
    compiles: bool

    @classmethod
    def here(cls) -> "Site":
        return cls(mx.default_device(), on_gpu(), can_compile())

    @contextmanager
    def under_test(self) -> Iterator[None]:
        """What is computed here is what a talk would compute."""
        with mx.stream(self.device):
            yield

    @contextmanager
    def judge(self) -> Iterator[None]:
        """On the CPU and op by op: no C++ compiler is called, which a Mac may not have."""
        with uncompiled(self.compiles), mx.stream(mx.cpu):
            yield


def host(array: mx.array) -> np.ndarray:
    """float32 (or the integers) of an array of any dtype."""
    if mx.issubdtype(array.dtype, mx.floating):
        array = array.astype(mx.float32)
    return np.array(array)


def apart(ours: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the largest number that is right; NaN where ours has one.

    Raises ValueError for another shape.
    """
    if ours.shape != right.shape:
        raise ValueError(f"the result is {list(ours.shape)} and not {list(right.shape)}")
    right = right.astype(np.float64)
    return float(np.abs(ours - right).max() / max(np.abs(right).max(), 1e-30))


def unequal(ours: np.ndarray, right: np.ndarray) -> float:
    """The share of tokens that differ, of those that are told (0 and up).

    Raises ValueError for another shape.
    """
    if ours.shape != right.shape:
        raise ValueError(f"the result is {list(ours.shape)} and not {list(right.shape)}")
    told = right >= 0
    return float((ours != right)[told].mean()) if told.any() else 0.0
