"""Where the language model's time goes: temporal against depth, in a pass of its own.

A frame is one graph with one host sync; to time its halves it must be cut in two with a sync
between them, which costs something. So the sum of the halves is reported beside the uncut frame.
"""

import time
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from moshi_mlx.cache import Position, lengths
from moshi_mlx.frame import can_compile
from moshi_mlx.lm import Buffers, Conditions, Lm
from moshi_mlx.sampling import samplers


@dataclass(frozen=True)
class Split:
    """Median milliseconds of the halves and of the uncut step, measured in turns."""

    temporal_ms: float
    depth_ms: float
    uncut_ms: float

    @property
    def total_ms(self) -> float:
        return self.temporal_ms + self.depth_ms


def split(lm: Lm, frames: int = 20, history_frames: int = 0) -> Split:
    """Time the halves of `frames` steps after so much history, and as many uncut steps between."""
    halves, generator = _Halves(lm, history_frames), lm.generator(seed=0)
    generator.line.step = history_frames
    codes = np.zeros(lm.config.user_q, np.int32)
    temporal, depth, uncut = [], [], []
    for i in range(frames + 2):
        one, two = halves.step()
        start = time.perf_counter()
        generator.step(codes)
        spent = time.perf_counter() - start
        if i >= 2:  # the first ones trace and compile
            temporal.append(one), depth.append(two), uncut.append(spent)
    return Split(*(1000 * float(np.median(times)) for times in (temporal, depth, uncut)))


def sweep(lm: Lm, histories: tuple[int, ...], frames: int = 20) -> dict[int, float]:
    """Frames of history -> median milliseconds of a language model step there."""
    found, codes = {}, np.zeros(lm.config.user_q, np.int32)
    for history in histories:
        generator = lm.generator(seed=0)
        generator.line.step = history
        times = []
        for _ in range(frames + 2):
            start = time.perf_counter()
            generator.step(codes)
            times.append(1000 * (time.perf_counter() - start))
        found[history] = float(np.median(times[2:]))
    return found


class _Halves:
    """The step of `Lm` in two compiled functions."""

    def __init__(self, lm: Lm, history_frames: int) -> None:
        self.lm, config = lm, lm.config
        context = config.transformer.context
        assert context is not None
        seen = min(history_frames + 1, context)
        length = next(n for n in lengths(context) if n >= seen)
        mask = None if seen == context else (mx.arange(length) < seen).reshape(1, 1, 1, length)
        self.at = Position(
            slot=mx.full((1, 1, 1, 1, 1), history_frames % context, mx.int32),
            rotations=mx.array([history_frames, history_frames, 0], mx.int32),
            length=length,
            mask=mask,
        )
        self.buffers = lm.new_buffers()
        greedy = replace(config.sampling, text_temperature=0.0, audio_temperature=0.0)
        self.choose_text, self.choose_audio = samplers(greedy)
        wrap = mx.compile if can_compile() else (lambda function: function)
        self.temporal, self.depth = wrap(self._temporal), wrap(self._depth)

    def _temporal(self, rings: list[mx.array]) -> tuple[mx.array, list[mx.array]]:
        buffers = Buffers(list(rings), [])
        text = mx.zeros((1, 1), mx.int32)
        rows = mx.zeros((1, 1, self.lm.config.n_q), mx.int32)
        out = self.lm.temporal_step(text, rows, buffers, self.at, Conditions())
        return out, buffers.rings

    def _depth(self, out: mx.array, depth: list[mx.array]) -> tuple[mx.array, list[mx.array]]:
        nothing = mx.array(0.0)
        token = self.choose_text(self.lm.text_linear(out), nothing, nothing)
        if not self.lm.config.depth:
            return token, depth
        return self.lm.depth.frame(
            out, token, depth, lambda _, logits: self.choose_audio(logits, nothing, nothing)
        )

    def step(self) -> tuple[float, float]:
        """Seconds of the temporal and of the depth half (text head and sampling are in it)."""
        start = time.perf_counter()
        out, self.buffers.rings = self.temporal(self.buffers.rings)
        mx.eval(out, self.buffers.rings)
        between = time.perf_counter()
        tokens, self.buffers.depth = self.depth(out, self.buffers.depth)
        np.array(tokens)
        return between - start, time.perf_counter() - between
