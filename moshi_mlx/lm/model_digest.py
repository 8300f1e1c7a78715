"""What a state fits: a digest of the weights, adapter included, and of what else a step depends on.

A KV cache is of use to the very model that filled it and to no other, and nothing in it tells. So
the digest is of all parameters as they are computed with: of which file they came doesn't matter.
It tells models apart, by any number that differs or changes its place; it is no seal against
someone who forges weights. Sums run at the speed of memory, SHA-256 at a tenth of it.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlx.core as mx
import numpy as np

from ..config.lm_config import LmConfig, SamplingConfig

THREADS = 4
BLOCK_WORDS = 8192  # 64 KiB
Parameters = Callable[[], dict[str, mx.array]]


class ModelDigest:
    """Of one model in memory, made when somebody first asks, on the thread that does.

    It reads all weights once.
    """

    def __init__(self, config: LmConfig, parameters: Parameters) -> None:
        self._config, self._parameters = config, parameters
        self._text: str | None = None

    @property
    def text(self) -> str:
        """64 hexadecimal digits."""
        if self._text is None:
            whole = hashlib.sha256(shape_of(self._config).encode())
            with ThreadPoolExecutor(THREADS, "moshi-digest") as pool:
                summed = [
                    (f"{name} {array.dtype} {array.shape} ", pool.submit(sums, bytes_of(array)))
                    for name, array in sorted(self._parameters().items())
                ]
            for name, future in summed:
                whole.update(name.encode() + future.result())
            self._text = whole.hexdigest()
        return self._text


def shape_of(config: LmConfig) -> str:
    """All of a config that a step depends on; how tokens are drawn may change."""
    return repr(replace(config, sampling=SamplingConfig(), cfg_coef=1.0, cfg_is_no_text=False))


def bytes_of(array: mx.array) -> np.ndarray:
    """The bytes of an array on the host; a copy only where it doesn't lie in one piece."""
    flat = mx.contiguous(array.reshape(-1)).view(mx.uint8)
    mx.eval(flat)
    return np.asarray(memoryview(flat))  # type: ignore[arg-type]


def sums(data: np.ndarray) -> bytes:
    """Bytes [n] -> their words summed, modulo 2^64, along the rows and columns of blocks."""
    words = data[: len(data) // 8 * 8].view(np.uint64)
    whole = len(words) // BLOCK_WORDS * BLOCK_WORDS
    blocks, rest = words[:whole].reshape(-1, BLOCK_WORDS), data[whole * 8 :]
    parts = (blocks.sum(axis=1), blocks.sum(axis=0), rest)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()
