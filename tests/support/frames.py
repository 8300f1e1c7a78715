"""One frame of each kind of conversation, on models with heads of 64, as their graphs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from app.machine.random_model import random_lm
from benchmarks.graph import Node, as_on_metal, kernels, nodes_of, views
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.compiled_step import FrameFunction, Held
from moshi_mlx.lm.model import Lm
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts.speaker import Speaker, SpeechStream
from tests.support.lm_goldens import GOLDEN

LAYERS = 2
NARROW = {
    **{"dim": 128, "num_heads": 2, "num_layers": LAYERS, "context": 256, "text_card": 64},
    **{"depformer_dim": 64, "depformer_num_heads": 1, "depformer_num_layers": LAYERS},
    "depformer_dim_feedforward": 288,
}


def narrow(preset: str, recipe: str = "fp32", dtype: str = "float32", **changes: Any) -> Lm:
    """A published model's shape with two narrow layers of each kind; its streams as they are."""
    raw = {**raw_preset(preset), **NARROW, "hidden_scale": 4.5, **changes}
    return random_lm(parse_config(raw, preset), recipe, dtype)


@dataclass(frozen=True)
class Frame:
    """A step that can be traced: the function of its kind, and what it is given."""

    function: FrameFunction
    held: Held

    def given(self) -> dict[str, Any]:
        lm, B = self.function.lm, self.function.layout.conversations
        later = B == 1 and lm.config.user_q > 0  # codes that are on the device still
        return {
            "packed": mx.zeros(self.function.integers.size, mx.int32),
            "user": [mx.zeros(lm.config.user_q, mx.int32)] if later else [],
            "key": mx.zeros(2 if B == 1 else (B, 2), mx.uint32),
            "scales": self.held.scales,
            "rings": self.held.buffers.rings,
            "extras": self.held.given.arrays(),
        }

    def call(self, step: int) -> Callable[[dict[str, Any]], Any]:
        """The function of what is given, for a frame after `step` others."""
        function = self.function
        full = step + 1 >= function.context
        length = next(n for n in function.lengths if n > step or n == function.context)
        traced, names = function.traced(length, full), list(self.given())
        return lambda tree: traced(*(tree.get(name, []) for name in names))

    def nodes(self, step: int = 5) -> list[Node]:
        given = self.given()
        mx.eval(given)
        return nodes_of(self.call(step), given)

    def counts(self, step: int = 5) -> tuple[dict[str, int], int]:
        """Kernels by name, after fusion, and views. Only of a function that never ran."""
        given = self.given()
        mx.eval(given)
        with as_on_metal():
            drawn, extra, rings = self.call(step)(given)
            outputs = [drawn, *extra, *(part for ring in rings for part in ring)]
            return kernels(outputs), views(outputs)


def frame_of(lm: Lm, batch: int | None = None, **options: Any) -> Frame:
    """Of a conversation with `lm`, or of a batch of them."""
    if batch is None:
        generator: Any = lm.generator(seed=0, **options)
    else:
        generator = lm.generator(batch=batch, seed=list(range(batch)), **options)
    return Frame(generator._frame, generator._held)


def spoken(lm: Lm, silent: bool = False, **options: Any) -> Frame:
    """Of a speech; `silent`: before its sound begins."""
    tokenizer = TextTokenizer(GOLDEN / "dsm_tts" / "tokenizer_spm_8k_en_fr_audio.model")
    stream = SpeechStream(Speaker(lm, None, tokenizer, 16, 2, {}), **options)
    model = stream._speaker.frame(0 if silent else stream.n_q)
    return Frame(model.functions.of(stream.draws, stream._layout), stream._held)


def voice(lm: Lm) -> dict[str, Any]:
    """Conditions of a model that takes voices: five speakers of 125 steps."""
    dim = lm.config.conditioners["speaker_wavs"].dim
    return {"speaker_wavs": np.zeros((625, dim), np.float32), "control": "ok", "cfg": "2.0"}
