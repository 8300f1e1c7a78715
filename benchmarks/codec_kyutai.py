"""Kyutai's side of codec.py: the MLX Mimi of `moshi_mlx` from PyPI, streaming."""

import sys

from worker import one_core, serve, timed_ms

one_core()

from importlib.metadata import version  # noqa: E402

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from moshi_mlx.models import mimi  # type: ignore # noqa: E402


class Kyutai:
    def __init__(self, path: str) -> None:
        self.mimi = mimi.Mimi(mimi.mimi_202407(8))
        self.mimi.load_pytorch_weights(path, strict=True)
        self.mimi.reset_all()
        mx.eval(self.mimi.parameters())
        self.rng = np.random.default_rng(0)

    def versions(self) -> dict[str, str]:
        return {"moshi_mlx": version("moshi_mlx"), "mlx": mx.__version__}

    def frame(self) -> tuple[float, float]:
        """Milliseconds to encode and to decode a frame, results read back."""
        pcm, codes = (0.1 * self.rng.standard_normal(1920)).astype(np.float32), []
        encode = timed_ms(lambda: codes.append(self.encode(pcm)))
        return encode, timed_ms(lambda: self.decode(codes[0]))

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        return np.array(self.mimi.encode_step(mx.array(pcm)[None, None]))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.array(self.mimi.decode_step(mx.array(codes)))


if __name__ == "__main__":
    serve(Kyutai(sys.argv[1]))
