"""Kyutai's side of dsm.py: `moshi_mlx` from PyPI, listening and speaking as its commands do it."""

import sys
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np
from graph import as_on_metal, kernels
from moshi_mlx.models.tts import Entry, StateMachine, TokenIds  # type: ignore
from moshi_mlx.modules.conditioner import ConditionTensor, TensorCondition  # type: ignore
from shapes import VOICE_STEPS, VOICE_WIDTH, listening_config, speaking_config
from worker import serve, timed_ms

from moshi_mlx import models, utils  # type: ignore

MAX_STEPS, DELAY_STEPS = 8000, 16


class Kyutai:
    """`kind`: "listen" or "speak"; greedy, so that no sampler decides."""

    def __init__(self, kind: str, width: str, heads: str) -> None:
        self.listens = kind == "listen"
        config = (listening_config if self.listens else speaking_config)(int(width), int(heads))
        self.lm = models.Lm(models.LmConfig.from_config_dict(config))
        mx.eval(self.lm.parameters())
        greedy = utils.Sampler(temp=0.0)
        self.asks = True
        hooks = {} if self.listens else {"on_text_hook": self.text, "on_audio_hook": self.audio}
        self.generator = models.LmGen(self.lm, MAX_STEPS, greedy, greedy, **hooks)
        self.codes = mx.zeros((1, 32 if self.listens else 0), mx.int32)
        self.given: dict[str, Any] = {}
        if not self.listens:
            self.given = self.conditions()
            self.machine = StateMachine(TokenIds(card=config["text_card"] + 1), 2, 8)
            self.state = self.machine.new_state([Entry([9, 10], "word") for _ in range(MAX_STEPS)])

    def conditions(self) -> dict[str, Any]:
        """As `TTSModel.generate` makes them."""
        provider = self.lm.condition_provider
        voice = TensorCondition.from_tensor(mx.zeros((1, VOICE_STEPS, VOICE_WIDTH)))
        words = [
            provider.condition_tensor(*word).tensor for word in (("cfg", "2.0"), ("control", "ok"))
        ]
        source = provider.conditioners["speaker_wavs"].condition(voice)
        return {"ct": ConditionTensor(words[0] + words[1]), "cross_attention_src": source}

    def text(self, tokens: mx.array) -> None:
        """Its text machine, which reads what the model asked for."""
        if self.asks:
            step, asked = self.generator.step_idx, int(np.array(tokens)[0, 0])
            fed, _ = self.machine.process(step, self.state, asked)
            tokens[:] = mx.array([[fed]])

    def audio(self, tokens: mx.array) -> None:
        for k, delay in enumerate(self.generator.audio_delays):
            if self.generator.step_idx < delay + DELAY_STEPS:
                tokens[:, k] = -1

    def versions(self) -> dict[str, str]:
        return {"moshi_mlx": version("moshi_mlx"), "mlx": mx.__version__}  # type: ignore

    def submit(self) -> Any:
        return self.generator.step_with_extra_heads(self.codes, **self.given)

    def finish(self, submitted: Any) -> None:
        text, _ = submitted
        text[0].item()
        if not self.listens:
            np.array(self.generator.gen_sequence[:, :, self.generator.step_idx - 1])

    def frame(self) -> float:
        return timed_ms(lambda: self.finish(self.submit()))

    def kernels(self) -> dict[str, int]:
        """Of a frame with sound. The reads inside `step` are left out, in its favour."""
        for _ in range(DELAY_STEPS + 4):
            self.frame()
        self.asks = False
        with as_on_metal():
            text, heads = self.submit()
            state: list[Any] = [c.self_attn for c in self.lm.transformer_cache]
            state += [c.self_attn for c in self.lm.depformer_cache]
            caches = [array for cache in state for array in cache.state if array is not None]
            return kernels([text, *heads, self.generator.gen_sequence, *caches])


if __name__ == "__main__":
    serve(Kyutai(*sys.argv[1:]))
