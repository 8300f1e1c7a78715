"""moshi-local's side of frame.py and kernels.py."""

import sys
from importlib.metadata import version

import mlx.core as mx
import numpy as np
from graph import as_on_metal, kernels
from shapes import AUDIO, MODELS, TEXT, raw_config
from worker import serve, timed_ms

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config


class Ours:
    def __init__(self, model: str) -> None:
        width, heads, recipe = MODELS[model]
        self.lm = random_lm(parse_config(raw_config(width, heads)), recipe, "float32")
        self.sampling = {
            "text_temperature": TEXT[0],
            "text_top_k": TEXT[1],
            "audio_temperature": AUDIO[0],
            "audio_top_k": AUDIO[1],
        }
        self.generator = self.lm.generator(seed=0, **self.sampling)
        self.codes = np.zeros(self.lm.config.user_q, np.int32)

    def versions(self) -> dict[str, str]:
        return {"moshi-local": version("moshi-local"), "mlx": mx.__version__}

    def frame(self) -> float:
        """Milliseconds of a frame: codes in, tokens read back."""
        return timed_ms(lambda: self.generator.step(self.codes))

    def build(self) -> float:
        """Milliseconds of a frame's graph, until nothing is left but to run it."""
        return timed_ms(lambda: self.generator.submit(self.codes), self.generator.finish)

    def kernels(self) -> dict[str, int]:
        with as_on_metal():
            # Settings of its own: a step that was traced without the stand-ins isn't used again.
            generator = self.lm.generator(seed=0, **{**self.sampling, "text_temperature": 0.71})
            generator.step(self.codes)
            tokens = generator.submit(self.codes).arrays()
            return kernels([*tokens, *generator.buffers.arrays()])


if __name__ == "__main__":
    serve(Ours(sys.argv[1]))
