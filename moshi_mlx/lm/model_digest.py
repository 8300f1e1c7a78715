"""What a state fits: a digest of the weights, adapter included, and of what else a step depends on.

A KV cache is of use to the very model that filled it and to no other, and nothing in it tells. So
the digest is of all parameters as they are computed with: of which file they came doesn't matter.
It tells models apart, by any number that differs or changes its place; it is no seal against
someone who forges weights. Sums run at the speed of memory, SHA-256 at a tenth of it.
"""

import hashlib
from collections.abc import Callable, Sequence
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

    It reads all weights once. After `take_hold` any thread may ask, one without MLX too.
    """

    def __init__(self, config: LmConfig, parameters: Parameters) -> None:
        self._config, self._parameters = config, parameters
        self._text: str | None = None
        self._held: list[tuple[str, np.ndarray]] | None = None  # what is still to be read

    def take_hold(self) -> None:
        """Find the weights in host memory, on the thread that has the model; nothing is read."""
        if self._text is None and self._held is None:
            found = sorted(self._parameters().items())
            names = [f"{name} {array.dtype} {array.shape} " for name, array in found]
            data = bytes_of_all([array for _, array in found])
            self._held = list(zip(names, data, strict=True))

    @property
    def text(self) -> str:
        """64 hexadecimal digits."""
        if self._text is None:
            self.take_hold()
            held = self._held or []
            whole = hashlib.sha256(shape_of(self._config).encode())
            with ThreadPoolExecutor(THREADS, "moshi-digest") as pool:
                summed = [(name, pool.submit(sums, data)) for name, data in held]
            for name, future in summed:
                whole.update(name.encode() + future.result())
            self._text, self._held = whole.hexdigest(), None
        return self._text


def shape_of(config: LmConfig) -> str:
    """All of a config that a step depends on; how tokens are drawn may change."""
    return repr(replace(config, sampling=SamplingConfig(), cfg_coef=1.0, cfg_is_no_text=False))


def bytes_of(array: mx.array) -> np.ndarray:
    """The bytes of an array on the host; a copy only where it doesn't lie in one piece."""
    return bytes_of_all([array])[0]


def bytes_of_all(arrays: Sequence[mx.array]) -> list[np.ndarray]:
    """The same of many, with one evaluation."""
    flat = [mx.contiguous(array.reshape(-1)).view(mx.uint8) for array in arrays]
    mx.eval(flat)
    return [np.asarray(memoryview(one)) for one in flat]  # type: ignore[arg-type]


def sums(data: np.ndarray) -> bytes:
    """Bytes [n] -> their words summed, modulo 2^64, along the rows and columns of blocks."""
    words = data[: len(data) // 8 * 8].view(np.uint64)
    whole = len(words) // BLOCK_WORDS * BLOCK_WORDS
    blocks, rest = words[:whole].reshape(-1, BLOCK_WORDS), data[whole * 8 :]
    parts = (blocks.sum(axis=1), blocks.sum(axis=0), rest)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()
