"""moshi-local's side of frame.py and kernels.py."""

import sys
from functools import cached_property
from importlib.metadata import version

import numpy as np
from shapes import AUDIO, MODELS, TEXT, raw_config
from worker import serve, timed_ms

from app.machine.random_model import random_lm
from benchmarks.graph import residual_norm
from benchmarks.step_graph import frame_of
from moshi_mlx.backend.residual_norm import taking
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.batch import BatchGenerator
from moshi_mlx.lm.model import Lm

TALKS = 4


class Ours:
    def __init__(self, model: str) -> None:
        self.model = model
        self.lm = self.made()
        self.sampling = {
            "text_temperature": TEXT[0],
            "text_top_k": TEXT[1],
            "audio_temperature": AUDIO[0],
            "audio_top_k": AUDIO[1],
        }
        self.generator = self.lm.generator(seed=0, **self.sampling)
        self.codes = np.zeros(self.lm.config.user_q, np.int32)

    def made(self) -> Lm:
        width, heads, recipe = MODELS[self.model]
        return random_lm(parse_config(raw_config(width, heads)), recipe, "float32")

    def versions(self) -> dict[str, str]:
        return {"moshi-local": version("moshi-local"), "mlx": version("mlx")}

    def frame(self) -> float:
        """Milliseconds of a frame: codes in, tokens read back."""
        return timed_ms(lambda: self.generator.step(self.codes))

    def build(self) -> float:
        """Milliseconds of a frame's graph, until nothing is left but to run it."""
        return timed_ms(lambda: self.generator.submit(self.codes), self.generator.finish)

    def frame_of_four(self) -> float:
        """The same of a batch."""
        return timed_ms(lambda: self.four.step(np.zeros((TALKS, self.codes.size), np.int32)))

    @cached_property
    def four(self) -> BatchGenerator:
        return self.lm.generator(batch=TALKS, seed=list(range(TALKS)), **self.sampling)

    # Settings of their own: a step that was traced without the stand-ins isn't used again.

    def kernels(self) -> dict[str, int]:
        return frame_of(self.lm, **{**self.sampling, "text_top_k": TEXT[1] + 1}).counts()[0]

    def joined_kernels(self) -> dict[str, int]:
        """With one kernel for an addition and its norm (`moshi_mlx/backend/residual_norm.py`)."""
        with taking(residual_norm):
            return frame_of(self.made()).counts()[0]

    def kernels_of_four(self) -> dict[str, int]:
        sampling = {**self.sampling, "text_top_k": TEXT[1] + 1}
        return frame_of(self.lm, batch=TALKS, **sampling).counts()[0]


if __name__ == "__main__":
    serve(Ours(sys.argv[1]))
