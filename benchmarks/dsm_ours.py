"""moshi-local's side of dsm.py."""

import sys
from importlib.metadata import version
from typing import Any

import numpy as np
from shapes import listening_config, speaking_config
from worker import ROOT, serve, timed_ms

from app.machine.random_model import random_lm
from benchmarks.step_graph import frame_of, spoken
from moshi_mlx.config.reading import parse_config
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts import Speaker
from moshi_mlx.tts.script import ScriptEntry

DELAY_STEPS, AHEAD = 16, 2
GREEDY: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}
FILES = 4
VERSIONS = {"moshi-local": version("moshi-local"), "mlx": version("mlx")}


class Listening:
    """A transcription's language model, one file or four in a batch."""

    def __init__(self, width: int, heads: int) -> None:
        self.lm = random_lm(parse_config(listening_config(width, heads)), "fp32", "float32")
        self.one = self.lm.generator(seed=0, **GREEDY)
        self.four = self.lm.generator(batch=FILES, **GREEDY)
        self.codes = np.zeros((FILES, self.lm.config.user_q), np.int32)

    def versions(self) -> dict[str, str]:
        return VERSIONS

    def frame(self) -> float:
        return timed_ms(lambda: self.one.step(self.codes[0]))

    def frame_of_four(self) -> float:
        return timed_ms(lambda: self.four.step(self.codes))

    def kernels(self) -> dict[str, int]:
        return frame_of(self.lm, **{**GREEDY, "text_top_k": 7}).counts()[0]  # not traced yet


class Speaking:
    """A speech without end."""

    def __init__(self, width: int, heads: int) -> None:
        self.lm = random_lm(parse_config(speaking_config(width, heads)), "fp32", "float32")
        self.stream = self.opened()

    def opened(self) -> Any:
        tokenizer = TextTokenizer(ROOT / "moshi_mlx" / "nano" / "tokenizer.model")
        stream = Speaker(self.lm, None, tokenizer, DELAY_STEPS, AHEAD, {}).stream(**GREEDY)
        stream.append(ScriptEntry((9, 10), "word", 0) for _ in range(8000))
        return stream

    def versions(self) -> dict[str, str]:
        return VERSIONS

    def frame(self) -> float:
        return timed_ms(lambda: next(self.stream.frames()))

    def kernels(self) -> dict[str, int]:
        """Of a frame with sound."""
        return spoken(self.lm, **GREEDY).counts()[0]


if __name__ == "__main__":
    side = Listening if sys.argv[1] == "listen" else Speaking
    serve(side(int(sys.argv[2]), int(sys.argv[3])))
