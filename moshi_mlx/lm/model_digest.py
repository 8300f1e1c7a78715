"""What a state fits: a digest of the weights, adapter included, and of what else a step depends on.

A KV cache is of use to the very model that filled it and to no other, and nothing in it tells. So
the digest is of all parameters as they are computed with: of which file they came doesn't matter.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlx.core as mx

from ..config.lm_config import LmConfig, SamplingConfig

HASHING_THREADS = 4
Parameters = Callable[[], dict[str, mx.array]]


class ModelDigest:
    """Of one model in memory. Its digest reads all weights once, when somebody first asks.

    On the thread that asks; a 7B in 4 bit has 4.8 GB.
    """

    def __init__(self, config: LmConfig, parameters: Parameters) -> None:
        self._config, self._parameters = config, parameters
        self._digest: str | None = None

    @property
    def text(self) -> str:
        """SHA-256 in hexadecimal."""
        if self._digest is None:
            whole = hashlib.sha256(shape_of(self._config).encode())
            with ThreadPoolExecutor(HASHING_THREADS, "moshi-digest") as pool:
                hashed = [
                    (name, f"{array.dtype} {array.shape}", pool.submit(_hashed, bytes_of(array)))
                    for name, array in sorted(self._parameters().items())
                ]
            for name, kind, digest in hashed:
                whole.update(f"{name} {kind} {digest.result()}\n".encode())
            self._digest = whole.hexdigest()
        return self._digest


def shape_of(config: LmConfig) -> str:
    """All of a config that a step depends on; how tokens are drawn may change."""
    return repr(replace(config, sampling=SamplingConfig(), cfg_coef=1.0, cfg_is_no_text=False))


def bytes_of(array: mx.array) -> memoryview:
    """The bytes of an array on the host; a copy only where it doesn't lie in one piece."""
    flat = mx.contiguous(array.reshape(-1)).view(mx.uint8)
    mx.eval(flat)
    return memoryview(flat)  # type: ignore[arg-type]


def _hashed(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
