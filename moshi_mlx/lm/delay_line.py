"""Which token enters the model when: PyTorch's delay line, in numpy.

A step's own samples and the user's codes may come after the step was asked for (they stay on the
device until its one read): `LATER` stands for them in what `inputs` and `upcoming` return.

Own code k sampled at step s belongs to time s - delay_k and is fed back at step s + 1; the user's
codes of call s are fed in call s (those of call 0 lie in the model's past and are ignored).
A prompt may give the tokens of positions to come: they enter in place of what is heard or sampled.
Source: PyTorch `moshi/models/lm.py`, LMGen._step. Shapes: K codebooks, text first, P positions.
"""

import copy
from dataclasses import dataclass

import numpy as np

from ..config.lm_config import NO_INPUT, NOT_GENERATED, LmConfig

LATER = -3  # a token that this very step brings


@dataclass(frozen=True)
class LineState:
    """A delay line between two steps.

    line: int32 [1 + n_q, max_delay + 2], position p in column p % (max_delay + 2); given: int32
    [P, 1 + n_q], the tokens of positions step, step + 1, ... as far as a prompt gives them,
    NOT_GENERATED where it doesn't.
    """

    step: int
    line: np.ndarray
    given: np.ndarray


class DelayLine:
    """A ring of max_delay + 2 steps of all 1 + n_q streams."""

    def __init__(self, config: LmConfig) -> None:
        self.config = config
        self.delays = np.array(config.delays, np.int64)
        self.own = 1 + config.dep_q
        self.size = config.max_delay + 2
        self.initial = np.array([config.text_card] + [config.card] * config.n_q, np.int32)
        self.line = np.full((1 + config.n_q, self.size), NOT_GENERATED, np.int32)
        self.step = 0
        self._given: np.ndarray | None = None  # [P, 1 + n_q], of positions from _given_from on
        self._given_from = 0
        self._own_streams = np.arange(self.own)
        self._user_streams = np.arange(self.own, 1 + config.n_q)

    def fork(self) -> "DelayLine":
        """Another line that goes on from here."""
        twin = copy.copy(self)
        twin.line = self.line.copy()
        return twin

    def skip(self, frames: int) -> None:
        """As if `frames` had passed in which every token was 0."""
        self.step += frames
        self.line[:] = 0

    def state(self) -> LineState:
        """What another line needs to go on from here."""
        given = np.empty((0, len(self.initial)), np.int32)
        if self._given is not None:
            given = self._given[self.step - self._given_from :]
        return LineState(self.step, self.line.copy(), given.copy())

    def resume(self, state: LineState) -> None:
        """Go on from where another line was."""
        self.step, self.line[:] = state.step, state.line
        self._given = state.given if len(state.given) else None
        self._given_from = state.step

    @property
    def prompted(self) -> bool:
        """Whether a prompt gives all tokens of the coming step: what is heard is of no use then."""
        given = self._given_at(self.step)
        return given is not None and bool((given != NOT_GENERATED).all())

    @property
    def hears(self) -> bool:
        """Whether the coming step's user codes enter anywhere, at once or behind their delays."""
        for stream in self._user_streams:
            given = self._given_at(self.step + int(self.delays[stream]))
            if given is None or given[stream] == NOT_GENERATED:
                return True
        return False

    def given_own(self) -> np.ndarray | None:
        """Tokens [1 + dep_q] that a prompt puts in place of this step's samples, NO_INPUT: none."""
        given = self._given_at(self.step + 1)
        if given is None:
            return None
        own = given[: self.own]
        return np.where(own == NOT_GENERATED, NO_INPUT, own)

    def _given_at(self, position: int) -> np.ndarray | None:
        if self._given is None or not 0 <= position - self._given_from < len(self._given):
            return None
        return self._given[position - self._given_from]

    def heard(self, user_codes: np.ndarray) -> None:
        """Take this call's user codes [user_q]; before `outputs`."""
        at = (self.step + self.delays[self.own :]) % self.size
        self.line[self._user_streams, at] = user_codes

    def inputs(self, user_codes: np.ndarray | None) -> np.ndarray:
        """The step's input tokens [1 + n_q], with LATER for user codes that aren't there yet."""
        if user_codes is not None:
            self.heard(user_codes)
        tokens = self.line[:, self.step % self.size]
        if user_codes is None:
            now = (np.arange(len(tokens)) >= self.own) & (self.delays == 0)
            tokens = np.where(now, LATER, tokens)
        tokens = np.where(self.step <= self.delays, self.initial, tokens)
        given = self._given_at(self.step)
        return tokens if given is None else np.where(given == NOT_GENERATED, tokens, given)

    def upcoming(self) -> np.ndarray | None:
        """What `outputs` will return, with LATER for the samples of this step."""
        if self.step + 1 <= self.config.max_delay:
            return None
        at = (self.step + 1 - self.config.max_delay + self.delays[: self.own]) % self.size
        now = self.delays[: self.own] == self.config.max_delay
        return np.where(now, LATER, self.line[self._own_streams, at])

    def outputs(self, own: np.ndarray) -> np.ndarray | None:
        """Take the step's samples [1 + dep_q]; return the realigned ones, None until complete."""
        self.step += 1
        self.line[: self.own, self.step % self.size] = own
        if self._given is not None and self._given_at(self.step) is None:
            self._given = None
        if self.step <= self.config.max_delay:
            return None
        at = (self.step - self.config.max_delay + self.delays[: self.own]) % self.size
        return self.line[self._own_streams, at]
