"""A conversation with the language model: one call a frame, all state in one object.

One host sync a frame: the sampled tokens come back in a single read. The step is traced once per
slice length of the caches, all of them at warm-up, and compiled where that works.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import mlx.core as mx
import numpy as np

from ..config.lm_config import NO_INPUT, LmConfig
from ..errors import MoshiError, UsageError
from .buffers import Buffers
from .compiled_step import Frame, FrameModel, Held
from .delay_line import LATER, DelayLine
from .sampling import Draws, SamplingOptions, override, samplers

MAX_SEED = 2**32


@dataclass(frozen=True)
class Step:
    """What one frame brought.

    text_token: this step's text token; sampled: int32 [dep_q], this step's own codes; codes: int32
    [dep_q], the frame that is complete (delays undone), None during the first max-delay calls;
    extra_heads: float32 [heads, dim] probabilities, where the model has such heads.
    """

    text_token: int
    sampled: np.ndarray
    codes: np.ndarray | None
    extra_heads: np.ndarray | None = None


@dataclass(frozen=True)
class Forced:
    """Tokens that replace the model's own samples of a step: -1 entries are left as sampled.

    A step's codes follow its forced text token, as they follow a sampled one (PyTorch:
    `on_text_hook`); forced codes are put in place after the step (`on_audio_hook`).
    """

    text_token: int = NO_INPUT
    codes: np.ndarray | None = None  # int [dep_q]


@dataclass(frozen=True)
class Submitted:
    """A frame on its way: lazy arrays, to be evaluated together (`mx.eval(s.arrays(), ...)`).

    drawn: sampled tokens [1 + dep_q]; user: the codes it was given, if lazy; known: tokens
    [1 + dep_q] of the frame that it completes, LATER where its own samples go; wanted: the forced
    tokens (-1: none).
    """

    drawn: mx.array
    user: mx.array | None
    extra_heads: mx.array | None
    known: np.ndarray | None
    wanted: np.ndarray

    def arrays(self) -> list[mx.array]:
        return [a for a in (self.drawn, self.user, self.extra_heads) if a is not None]

    def codes(self) -> mx.array | None:
        """The codes that this frame completes, lazy int32 [dep_q], for a decoder in MLX."""
        if self.known is None or len(self.wanted) == 1:
            return None
        forced = (self.known == LATER) & (self.wanted != NO_INPUT)
        known = mx.array(np.where(forced, self.wanted, self.known)[1:].astype(np.int32))
        return mx.where(known == LATER, self.drawn[1:].astype(mx.int32), known)


class GeneratorOptions(SamplingOptions, total=False):
    """How a conversation is held: how tokens are drawn (`SamplingOptions`), and

    conditions: name -> value; kv_bits: 8 keeps keys and values in 8 bit (None: as the model was
    loaded); draws: samplers of text and audio to take for our own; compiled: False runs every step
    op by op, as such samplers need if they look at values.
    """

    conditions: Mapping[str, Any] | None
    kv_bits: int | None
    draws: Draws | None
    compiled: bool


class LmGenerator:
    """Streams one conversation through a language model (PyTorch: LMGen).

    Options: see GeneratorOptions. `seed`: None draws one, kept in `seed`.
    """

    def __init__(
        self, lm: FrameModel, seed: int | None = None, **options: Unpack[GeneratorOptions]
    ) -> None:
        """Raises MoshiError for options that there aren't or that don't fit the model."""
        self.lm, self.seed = lm, check_seed(seed)
        conditions = options.pop("conditions", None)
        kv_bits = options.pop("kv_bits", None)
        self.kv_bits = lm.kv_bits if kv_bits is None else kv_bits
        draws, compiled = options.pop("draws", None), options.pop("compiled", True)
        self.sampling = override(lm.config.sampling, options)
        self.line = DelayLine(lm.config)
        self._frame = lm.functions.of(draws or samplers(self.sampling), compiled)
        self._held = Held(
            temperatures=mx.array(
                [self.sampling.text_temperature, self.sampling.audio_temperature]
            ),
            given=lm.conditions(conditions),
            buffers=lm.new_buffers(self.kv_bits),
        )
        mx.eval(self._held.given.arrays())  # for whatever thread the conversation is held on

    @property
    def buffers(self) -> Buffers:
        """Its device memory; what a step has replaced is no longer in it."""
        return self._held.buffers

    @property
    def steps(self) -> int:
        """Frames so far."""
        return self.line.step

    def warm_up(self, user_later: bool = False) -> None:
        """Trace and run the step at every cache size, so that no frame pays for it later.

        `user_later`: for `submit` with user codes that are still on the device. Does nothing where
        a conversation of the same top-k, top-p, cache and conditions' shapes was warmed before.
        """
        held = self._held
        kind = (user_later, self.kv_bits, *(array.shape for array in held.given.arrays()))
        if kind in self._frame.warm:
            return
        if self.steps:
            held = replace(held, buffers=self.lm.new_buffers(self.kv_bits))
        try:  # before the first step in its own buffers: a second pair may not fit in memory
            self._frame.warm_up(held, user_later)
        finally:
            held.buffers = Buffers([])  # the old ones go first
            held.buffers = self.lm.new_buffers(self.kv_bits)
        self._frame.warm.add(kind)

    def skip(self, frames: int) -> None:
        """As if `frames` had passed, their tokens 0: to measure far into a conversation.

        Below 0 it goes back; the caches stay as they are.
        """
        self.line.skip(frames)

    def step(self, user_codes: Any, forced: Forced | None = None) -> Step:
        """One frame: the user's codes, int [user_q] with -1 for no input -> a Step.

        Raises MoshiError for codes of another shape or outside the vocabulary.
        """
        return self.finish(self.submit(user_codes, forced))

    def submit(self, user_codes: Any, forced: Forced | None = None) -> Submitted:
        """The frame's graph, nothing evaluated; `finish` must follow before the next.

        `user_codes` may be an MLX array that isn't evaluated either, int32 [user_q]: what a codec
        in MLX gives. Its values aren't checked. Raises MoshiError as `step` does.
        """
        user = user_codes if isinstance(user_codes, mx.array) else None
        known = check_user_codes(user_codes, self.lm.config) if user is None else None
        wanted = wanted_tokens(forced or Forced(), self.lm.config)
        tokens, step = self.line.inputs(known), self.line.step
        frame = Frame(tokens, user, step, self.seed, forced_text=int(wanted[0]))
        drawn, extra = self._frame(frame, self._held)
        return Submitted(drawn, user, extra, self.line.upcoming(), wanted)

    def finish(self, submitted: Submitted, others: Sequence[mx.array] = ()) -> Step:
        """Wait for a frame's tokens, in one read, and move on by a frame.

        `others`: what is to be there at the same time, such as what a decoder makes of `codes()`.
        """
        s = submitted
        mx.eval(s.arrays(), list(others))  # the one host sync of a frame: all below is there then
        tokens = np.array(s.drawn).astype(np.int32)
        if s.user is not None:
            self.line.heard(np.array(s.user))
        sampled = np.where(s.wanted == NO_INPUT, tokens, s.wanted)
        complete = self.line.outputs(sampled)
        return Step(
            text_token=int(sampled[0]),
            sampled=sampled[1:],
            codes=None if complete is None or not self.lm.config.dep_q else complete[1:],
            extra_heads=None if s.extra_heads is None else np.array(s.extra_heads),
        )


def check_seed(seed: int | None) -> int:
    """A seed in range, drawn when None."""
    if seed is None:
        return secrets.randbelow(MAX_SEED)
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"the seed must lie between 0 and {MAX_SEED - 1}, not {seed}")
    return int(seed)


def check_user_codes(codes: Any, config: LmConfig) -> np.ndarray:
    """int32 [user_q], each -1 or a code. Raises MoshiError."""
    array = np.asarray(codes)
    if array.shape != (config.user_q,):
        raise MoshiError(
            f"user codes must have the shape [{config.user_q}], not {list(array.shape)}"
        )
    if not config.user_q:
        return np.empty(0, np.int32)
    if not np.issubdtype(array.dtype, np.integer):
        raise MoshiError(f"user codes must be integers, not {array.dtype}")
    if array.min() < NO_INPUT or array.max() > config.card:
        raise MoshiError(f"user codes must lie between -1 and {config.card}")
    return array.astype(np.int32)


def wanted_tokens(forced: Forced, config: LmConfig) -> np.ndarray:
    """int32 [1 + dep_q]: the forced tokens, -1 where the model's own samples stand."""
    wanted = np.full(1 + config.dep_q, NO_INPUT, np.int32)
    wanted[0] = forced.text_token
    if forced.codes is not None:
        if np.shape(forced.codes) != (config.dep_q,):
            raise MoshiError(f"forced codes must have the shape [{config.dep_q}]")
        wanted[1:] = forced.codes
    return wanted
