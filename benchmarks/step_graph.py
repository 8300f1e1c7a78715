"""One frame of each kind of conversation as a graph: its step's function and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from moshi_mlx.hub import NANO
from moshi_mlx.lm.compiled_step import FrameFunction, Held
from moshi_mlx.lm.model import Lm
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts import Speaker, SpeechStream

from .graph import Node, as_on_metal, kernels, nodes_of, views


@dataclass(frozen=True)
class Frame:
    """A step that can be traced: the function of its kind, and what it is given.

    user_later: whether the user's codes are on the device still, as a codec in MLX leaves them.
    """

    function: FrameFunction
    held: Held
    user_later: bool = False

    def given(self) -> dict[str, Any]:
        lm, B = self.function.lm, self.function.layout.conversations
        return {
            "packed": mx.zeros(self.function.integers.size, mx.int32),
            "user": [mx.zeros(lm.config.user_q, mx.int32)] if self.user_later else [],
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


def frame_of(lm: Lm, batch: int | None = None, user_later: bool = False, **options: Any) -> Frame:
    """Of a conversation with `lm`, or of a batch of them."""
    if batch is None:
        generator: Any = lm.generator(seed=0, **options)
    else:
        generator = lm.generator(batch=batch, seed=list(range(batch)), **options)
    return Frame(generator._frame, generator._held, user_later)


def spoken(lm: Lm, silent: bool = False, **options: Any) -> Frame:
    """Of a speech; `silent`: before its sound begins."""
    tokenizer = TextTokenizer(NANO / "tokenizer.model")
    stream = SpeechStream(Speaker(lm, None, tokenizer, 16, 2, {}), **options)
    model = stream._speaker.frame(0 if silent else stream.n_q)
    return Frame(model.functions.of(stream.draws, stream._layout), stream._held)
