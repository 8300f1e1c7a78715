"""A conversation with the language model: one call a frame, all state in one object.

One host sync a frame: the sampled tokens come back in a single read. The step is traced once per
slice length of the caches, all of them at warm-up, and compiled where that works.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import mlx.core as mx
import numpy as np

from ..config.lm_config import NO_INPUT, SamplingConfig
from .buffers import Buffers, Conditions
from .compiled_step import FrameModel, Held, HostFrame, scales_of
from .conversation import Forced, Step
from .delay_line import LATER
from .options import GeneratorOptions
from .sampling import samplers
from .state.beginning import Beginning, begin, resume, state_of
from .state.past import LmState
from .step_inputs import Layout


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
        """What is to be evaluated."""
        return [a for a in (self.drawn, self.user, self.extra_heads) if a is not None]

    def codes(self) -> mx.array | None:
        """The codes that this frame completes, lazy int32 [dep_q], for a decoder in MLX."""
        if self.known is None or len(self.wanted) == 1:
            return None
        forced = (self.known == LATER) & (self.wanted != NO_INPUT)
        known = mx.array(np.where(forced, self.wanted, self.known)[1:].astype(np.int32))
        return mx.where(known == LATER, self.drawn[1:].astype(mx.int32), known)


class LmGenerator:
    """Streams one conversation through a language model (PyTorch: LMGen).

    Options: see GeneratorOptions. `seed`: None draws one, kept in `seed`.
    """

    def __init__(
        self,
        lm: FrameModel,
        seed: int | None = None,
        *,
        state: LmState | None = None,
        **options: Unpack[GeneratorOptions],
    ) -> None:
        """`state`: a snapshot to go on from, which brings all options but `draws`, `compiled`.

        Raises MoshiError for options that there aren't or that don't fit the model.
        """
        self.lm = lm
        draws, compiled = options.pop("draws", None), options.pop("compiled", True)
        kv_bits = options.pop("kv_bits", None) if state is None else state.past.kv_bits
        self.kv_bits = lm.kv_bits if kv_bits is None else kv_bits
        if state is None:
            self._begun: Beginning | None = begin(lm, seed, self.kv_bits, options)
        else:
            self._begun = resume(lm, state, draws)
        self._talk, self._own_draws = self._begun.talk, draws is not None
        guidance = self._talk.guidance
        layout = Layout(1, guidance is not None, guidance is None or not guidance.no_text)
        self._frame = lm.functions.of(draws or samplers(self.sampling), layout, compiled)
        self._held = Held(
            scales=scales_of([self._talk]),
            given=self._begun.given,
            buffers=lm.new_buffers(self.kv_bits, layout.rows),
        )
        mx.eval(self._held.given.arrays())  # for whatever thread the conversation is held on
        self._begun.fill(self.buffers, range(layout.rows))

    def __repr__(self) -> str:
        return f"<LmGenerator: seed {self.seed}, {self.steps} frames so far>"

    @property
    def sampling(self) -> SamplingConfig:
        """How its tokens are drawn."""
        return self._talk.sampling

    @property
    def seed(self) -> int:
        """The seed of this conversation, also when it was drawn."""
        return self._talk.seed

    @property
    def buffers(self) -> Buffers:
        """Its device memory; what a step has replaced is no longer in it."""
        return self._held.buffers

    @property
    def given(self) -> Conditions:
        """What all of its steps are given of its conditions."""
        return self._held.given

    @property
    def steps(self) -> int:
        """Frames so far, those of a prompt counted."""
        return self._talk.line.step

    @property
    def prompted(self) -> bool:
        """Whether the coming step is the last of a prompt: it hears nothing and ends it."""
        return self._talk.line.prompted

    @property
    def hears(self) -> bool:
        """Whether the user's codes of the coming step enter anywhere: those that end a persona's
        prompt don't."""
        return self._talk.line.hears

    @property
    def prompt_frames(self) -> int:
        """How many of the frames so far were a prompt."""
        return self._talk.prompt_frames

    @property
    def pinned(self) -> int:
        """How many of its first positions never leave the context (`keep_prompt`)."""
        return self._talk.pinned

    def snapshot(self) -> LmState:
        """This conversation as it is between two steps, for `Lm.resume`; it goes on untouched."""
        rows = range(self._frame.layout.rows)
        return state_of(self._talk, self._held, self.lm, rows, self.kv_bits, self._own_draws)

    def warm_up(self, user_later: bool = False) -> None:
        """Trace and run the step at every cache size, so that no frame pays for it later.

        `user_later`: for `submit` with user codes that are still on the device. Does nothing where
        a conversation of the same top-k, top-p, cache and conditions' shapes was warmed before.
        """
        begun = self._begun is None
        if self._frame.warm_up(self._held, self.kv_bits, user_later, begun) and self._begun:
            self._begun.fill(self.buffers, range(self._frame.layout.rows))

    def fork(self) -> "LmGenerator":
        """Another conversation that goes on from here; this one doesn't notice.

        It costs a copy of the caches, made by the next step of either: a ring is written in place
        only where nobody else holds it.
        """
        twin = copy.copy(self)
        twin._talk = self._talk.fork()
        twin._held = replace(self._held, buffers=Buffers(list(self._held.buffers.rings)))
        return twin

    def skip(self, frames: int) -> None:
        """As if `frames` had passed, their tokens 0: to measure far into a conversation.

        Below 0 it goes back; the caches stay as they are.
        """
        self._talk.line.skip(frames)

    def step(self, user_codes: Any, forced: Forced | None = None) -> Step:
        """One frame: the user's codes, int [user_q] with -1 for no input -> a Step.

        The first step after a prompt ends it: it hears nothing but what the prompt left open.
        Raises MoshiError for codes of another shape or outside the vocabulary.
        """
        return self.finish(self.submit(user_codes, forced))

    def submit(
        self, user_codes: Any, forced: Forced | None = None, told: int | None = None
    ) -> Submitted:
        """The frame's graph, nothing evaluated; `finish` must follow before the next.

        `user_codes` may be an MLX array that isn't evaluated either, int32 [user_q]: what a codec
        in MLX gives. Its values aren't checked. `told`: a number for a FrameModel that reads the
        place of the forced text token in a way of its own; its sample stands. Raises MoshiError as
        `step` does.
        """
        user = user_codes if isinstance(user_codes, mx.array) else None
        talk, self._begun = self._talk, None
        known = talk.user_codes(user_codes) if user is None else None
        wanted = talk.wanted(forced)
        frame = HostFrame(
            tokens=talk.inputs(known),
            user=user,
            steps=np.array([talk.line.step]),
            seeds=np.array([talk.seed]),
            forced_text=wanted[:1] if told is None else np.array([told]),
            pinned=np.array([talk.pinned]) if talk.pinned else None,
        )
        drawn, extra = self._frame(frame, self._held)
        return Submitted(drawn, user, extra, talk.line.upcoming(), wanted)

    def finish(self, submitted: Submitted, others: Sequence[mx.array] = ()) -> Step:
        """Wait for a frame's tokens, in one read, and move on by a frame.

        `others`: what is to be there at the same time, such as what a decoder makes of `codes()`.
        """
        s = submitted
        mx.eval(s.arrays(), list(others))  # the one host sync of a frame: all below is there then
        if s.user is not None:
            self._talk.line.heard(np.array(s.user))
        heads = None
        if s.extra_heads is not None:
            heads = np.array(s.extra_heads)[:: self._frame.layout.rows]
        return self._talk.take(np.array(s.drawn).astype(np.int32), s.wanted, heads)
