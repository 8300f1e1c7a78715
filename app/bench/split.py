"""Where the language model's time goes: temporal against depth, in a pass of its own.

A frame is one graph with one host sync; to time its halves it must be cut in two with a sync
between them, which costs something. So the sum of the halves is reported beside the uncut frame.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.config.lm_config import SamplingConfig
from moshi_mlx.lm.buffers import Buffers, Conditions
from moshi_mlx.lm.generator import LmGenerator
from moshi_mlx.lm.layers.kv_ring import Position, Ring, lengths
from moshi_mlx.lm.layers.linear import linear_of
from moshi_mlx.lm.model import Lm, frame_noise
from moshi_mlx.lm.sampling import samplers

TRACED_FRAMES = 2  # the first ones trace and compile


@dataclass(frozen=True)
class Split:
    """Median milliseconds of the halves and of the uncut step, measured in turns."""

    temporal_ms: float
    depth_ms: float
    uncut_ms: float

    @property
    def total_ms(self) -> float:
        return self.temporal_ms + self.depth_ms


def split(
    lm: Lm, frames: int = 20, history_frames: int = 0, conditions: Mapping[str, Any] | None = None
) -> Split:
    """Time the halves of `frames` steps after so much history, and as many uncut steps between."""
    generator = after(lm, history_frames, conditions)
    halves = Halves(lm, generator.buffers, history_frames, given=generator.given)
    codes = np.zeros(lm.config.user_q, np.int32)
    temporal, depth, uncut = [], [], []
    for _ in range(frames + TRACED_FRAMES):
        start = time.perf_counter()
        halves.temporal()
        between = time.perf_counter()
        halves.depth()
        end = time.perf_counter()
        temporal.append(between - start)
        depth.append(end - between)
        start = time.perf_counter()
        generator.step(codes)
        uncut.append(time.perf_counter() - start)
    halves.release()
    times = (np.median(list_[TRACED_FRAMES:]) for list_ in (temporal, depth, uncut))
    return Split(*(1000 * float(seconds) for seconds in times))


def sweep(
    lm: Lm,
    histories: tuple[int, ...],
    frames: int = 20,
    conditions: Mapping[str, Any] | None = None,
) -> dict[int, float]:
    """Frames of history -> median milliseconds of a language model step there.

    The histories take turns, so that a machine that gets slower doesn't blame the last one.
    """
    codes = np.zeros(lm.config.user_q, np.int32)
    times: dict[int, list[float]] = {history: [] for history in histories}
    # One for all: a pair of rings each may not fit in memory.
    generator = lm.generator(seed=0, conditions=conditions)
    for _ in range(frames + TRACED_FRAMES):
        for history, row in times.items():
            generator.skip(history - generator.steps)
            start = time.perf_counter()
            generator.step(codes)
            row.append(1000 * (time.perf_counter() - start))
    return {history: float(np.median(row[TRACED_FRAMES:])) for history, row in times.items()}


def histories(context: int) -> tuple[int, ...]:
    """None, a quarter, half and all of the context: 0, 750, 1500 and 3000 frames for the 7B."""
    return tuple(sorted({0, context // 4, context // 2, context}))


def after(lm: Lm, history_frames: int, conditions: Mapping[str, Any] | None = None) -> LmGenerator:
    """A conversation as if so many frames had passed: the cost is that of zeros in the caches."""
    generator = lm.generator(seed=0, conditions=conditions)
    generator.skip(history_frames)
    return generator


class Halves:
    """One step of `Lm` in two functions with a sync behind each, on a beginning's tokens."""

    def __init__(
        self,
        lm: Lm,
        buffers: Buffers,
        history_frames: int = 0,
        sampling: SamplingConfig | None = None,
        given: Conditions | None = None,
    ) -> None:
        """`buffers`: those of a conversation, which are written as its steps would."""
        self.lm, config = lm, lm.config
        self.given = Conditions() if given is None else given
        sampling = sampling or config.sampling
        self.at = position(history_frames, config.transformer.context or 1)
        self.buffers = buffers
        self.draws = samplers(sampling)
        self.temperatures = mx.array([sampling.text_temperature, sampling.audio_temperature])
        self.key = mx.array(np.array([0, history_frames], np.uint32))
        self.text = mx.full(1, config.text_card, mx.int32)
        first = mx.full((1, config.n_q, 1), config.card, mx.int32)
        rows = lm.audio_emb.rows(first) if config.n_q else first
        self.rows = rows.flatten()
        wrap = mx.compile if can_compile() else (lambda function: function)
        self._temporal, self._depth = wrap(self._temporal_half), wrap(self._depth_half)

    def release(self) -> None:
        """Let go of all that they hold: compiled methods keep their object, and what they saw."""
        self.buffers, self.given = Buffers([]), Conditions()
        del self._temporal, self._depth

    def temporal(self) -> None:
        """Embeddings and temporal transformer, waited for."""
        self.out, self.buffers.rings = self._temporal(self.text, self.rows, self.buffers.rings)
        mx.eval(self.out, self.buffers.rings)

    def depth(self) -> np.ndarray:
        """Text head, sampling and depth transformer: the tokens [1 + dep_q] on the host."""
        return np.array(self._depth(self.out, self.key))

    def _temporal_half(
        self, text: mx.array, rows: mx.array, rings: list[Ring]
    ) -> tuple[mx.array, list[Ring]]:
        buffers = Buffers(list(rings))
        out = self.lm.temporal_step(text, rows, buffers, self.at, self.given)
        return out, buffers.rings

    def _depth_half(self, out: mx.array, key: mx.array) -> mx.array:
        logits = linear_of(out, self.lm.text_linear)
        noise = frame_noise(key, self.draws, self.lm.config)
        token = self.draws[0](logits, self.temperatures[:1], noise[0])
        if not self.lm.config.depth:
            return token

        def choose(s: int, logits: mx.array) -> mx.array:
            return self.draws[1](logits, self.temperatures[1:], noise[1 + s])

        return mx.concatenate([token, *self.lm.depth.frame(out, token, choose)])


def position(history_frames: int, context: int) -> Position:
    """Where a step after so many frames writes and what it sees."""
    seen = min(history_frames + 1, context)
    length = next(n for n in lengths(context) if n >= seen)
    mask = None if seen == context else (mx.arange(length) < seen).reshape(1, 1, 1, length)
    return Position(
        slot=mx.full((1, 1, 1, 1), history_frames % context, mx.int32),
        rotations=mx.array([history_frames, history_frames, 0], mx.int32),
        length=length,
        mask=mask,
    )
