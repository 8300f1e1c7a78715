"""moshi-local's sides of codec.py: Mimi in MLX, and rustymimi."""

import sys

from worker import one_core, serve, timed_ms

one_core()

from importlib.metadata import version  # noqa: E402

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402

import moshi_mlx  # noqa: E402


class Ours:
    def __init__(self, backend: str, path: str) -> None:
        self.backend = backend
        self.stream = moshi_mlx.load_mimi(path, num_codebooks=8, backend=backend).stream()
        self.rng = np.random.default_rng(0)

    def versions(self) -> dict[str, str]:
        if self.backend == "rust":
            return {"rustymimi": version("rustymimi")}
        return {"moshi-local": version("moshi-local"), "mlx": mx.__version__}

    def frame(self) -> tuple[float, float]:
        """Milliseconds to encode and to decode a frame, results read back."""
        pcm, codes = (0.1 * self.rng.standard_normal(1920)).astype(np.float32), []
        encode = timed_ms(lambda: codes.append(self.stream.encode(pcm)))
        return encode, timed_ms(lambda: self.stream.decode(codes[0]))


if __name__ == "__main__":
    serve(Ours(sys.argv[1], sys.argv[2]))
