"""Kyutai's side of frame.py and kernels.py: `moshi_mlx` from PyPI, as its run_inference does it."""

import sys
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from graph import as_on_metal, kernels
from shapes import AUDIO, MODELS, TEXT, raw_config
from worker import serve, timed_ms

from moshi_mlx import models, utils  # type: ignore

MAX_STEPS = 8000


class Kyutai:
    def __init__(self, model: str) -> None:
        width, heads, recipe = MODELS[model]
        self.lm = models.Lm(models.LmConfig.from_config_dict(raw_config(width, heads)))
        if recipe == "q4":
            nn.quantize(self.lm, bits=4, group_size=32)
        mx.eval(self.lm.parameters())
        self.generator = models.LmGen(
            model=self.lm,
            max_steps=MAX_STEPS,
            text_sampler=utils.Sampler(temp=TEXT[0], top_k=TEXT[1]),
            audio_sampler=utils.Sampler(temp=AUDIO[0], top_k=AUDIO[1]),
        )
        self.codes = np.zeros((1, 8), np.int32)

    def versions(self) -> dict[str, str]:
        return {"moshi_mlx": version("moshi_mlx"), "mlx": mx.__version__}

    def submit(self) -> mx.array:
        return self.generator.step(mx.array(self.codes))

    def finish(self, text: mx.array) -> None:
        text[0].item()
        codes = self.generator.last_audio_tokens()
        if codes is not None:
            np.array(codes)

    def frame(self) -> float:
        return timed_ms(lambda: self.finish(self.submit()))

    def build(self) -> float:
        return timed_ms(self.submit, self.finish)

    def kernels(self) -> dict[str, int]:
        """Of the tokens and all state; the reads inside `step` are left out, in its favour."""
        for _ in range(3):
            self.frame()
        with as_on_metal():
            text = self.submit()
            state: list[Any] = [c.self_attn for c in self.lm.transformer_cache]
            state += [c.self_attn for c in self.lm.depformer_cache]
            caches = [array for cache in state for array in cache.state]
            return kernels([text, self.generator.gen_sequence, *caches])


if __name__ == "__main__":
    serve(Kyutai(sys.argv[1]))
