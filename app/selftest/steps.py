"""A language model's step with tokens that are known, giving logits: `Lm.step`, as a talk runs it.

Shapes: R rows, B conversations, V vocabulary, T steps, S depth slices, K codebooks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.config.lm_config import NO_INPUT
from moshi_mlx.lm.buffers import Buffers, Conditions
from moshi_mlx.lm.compiled_step import SINGLE, FrameFunction, HostFrame
from moshi_mlx.lm.layers.kv_ring import Ring
from moshi_mlx.lm.model import Lm

from .site import host

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


def op_by_op(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `mx.compile`, and nothing is compiled."""
    return function


@dataclass(frozen=True)
class Logits:
    """float32: text [T, V], audio [S, T, card]."""

    text: np.ndarray
    audio: np.ndarray


class Told:
    """Both samplers of a step: keeps the logits that it is given and draws what it is told."""

    greedy = True

    def __init__(self) -> None:
        self.tokens: list[mx.array] = []
        self.logits: list[mx.array] = []

    def __call__(self, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        self.logits.append(logits)
        return self.tokens[len(self.logits) - 1]


class ForcedSteps:
    """One conversation's steps, one after the other."""

    def __init__(
        self, lm: Lm, compile: Compile = op_by_op, given: Conditions | None = None
    ) -> None:
        self.lm, self.compile, self.given = lm, compile, given or Conditions()
        self.told = Told()
        self.function = FrameFunction(lm, (self.told, self.told), SINGLE, False)
        self.buffers = lm.new_buffers()
        self.calls: dict[tuple[int, bool], Callable[..., Any]] = {}
        self.traces = 0
        self.step = 0

    def run(self, tokens: np.ndarray, known: np.ndarray) -> Logits:
        """Input tokens [1 + K, T] and what each step is told to draw, [1 + S, T]."""
        rows = [self.one(tokens[:, t], known[:, t]) for t in range(tokens.shape[1])]
        text, audio = zip(*rows, strict=True)
        return Logits(np.stack(text), np.stack(audio, axis=1))

    def one(self, tokens: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A step -> logits of text [V] and of codes [S, card]."""
        context = self.function.context
        live = min(self.step + 1, context)
        length = next(n for n in self.function.lengths if n >= live)
        frame = HostFrame(
            tokens=tokens[None],
            user=None,
            steps=np.array([self.step]),
            seeds=np.array([0]),
            forced_text=np.array([NO_INPUT]),
        )
        packed = self.function.pack(frame, np.array([live]))
        logits, self.buffers.rings = self.call(length, live == context)(
            packed, mx.array(known), self.buffers.rings, self.given.arrays()
        )
        mx.eval(logits, self.buffers.arrays())
        self.step += 1
        found = [host(row)[0] for row in logits]
        return found[0], np.array(found[1:]).reshape(len(found) - 1, -1)

    def call(self, length: int, full: bool) -> Callable[..., Any]:
        """The function of one slice length."""
        if (length, full) not in self.calls:

            def traced(
                packed: mx.array, known: mx.array, rings: list[Ring], extras: list[mx.array]
            ) -> tuple[list[mx.array], list[Ring]]:
                self.traces += 1
                fields = self.function.integers.cut(packed)
                scales, key = mx.ones((2, 1)), mx.zeros(2, mx.uint32)
                inputs = self.function.inputs(fields, [], scales, key, extras, length, full)
                buffers = Buffers(list(rings))
                self.told.tokens, self.told.logits = list(mx.split(known, len(known))), []
                self.lm.step(inputs, buffers, (self.told, self.told))
                return self.told.logits, buffers.rings

            self.calls[length, full] = self.compile(traced)
        return self.calls[length, full]
