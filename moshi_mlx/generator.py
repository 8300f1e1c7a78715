"""A conversation with the language model: one call a frame, all state in one object.

One host sync a frame: the sampled tokens come back in a single read. The step is traced once per
slice length of the caches, all of them at warm-up, and compiled where that works.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import NO_INPUT, SamplingConfig
from .delay_line import DelayLine
from .errors import MoshiError
from .frame import FrameFunction
from .lm import Lm

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
    """Tokens that replace the model's own samples of a step: -1 entries are left as sampled."""

    text_token: int = NO_INPUT
    codes: np.ndarray | None = None  # int [dep_q]


class LmGenerator:
    """Streams one conversation through an Lm (PyTorch: LMGen).

    Options: seed (None draws one, kept in `seed`), text_temperature, text_top_k, text_top_p,
    audio_temperature, audio_top_k, audio_top_p (defaults from the config; temperature 0 is
    greedy, top-p > 0 replaces top-k), conditions (name -> value).
    """

    def __init__(
        self,
        lm: Lm,
        seed: int | None = None,
        conditions: Mapping[str, Any] | None = None,
        **sampling: float,
    ) -> None:
        self.lm = lm
        self.seed = check_seed(seed)
        self.sampling = override(lm.config.sampling, sampling)
        self.line = DelayLine(lm.config)
        self._frame = FrameFunction.of(lm, self.sampling)
        self._buffers = lm.new_buffers()
        self._given = lm.conditions(conditions)

    @property
    def steps(self) -> int:
        """Frames so far."""
        return self.line.step

    def warm_up(self) -> None:
        """Trace and run the step at every cache size, so that no frame pays for it later."""
        self._frame.warm_up(self.lm.new_buffers(), self._given)

    def step(self, user_codes: Any, forced: Forced | None = None) -> Step:
        """One frame: the user's codes, int [user_q] with -1 for no input -> a Step.

        Raises MoshiError for codes of another shape or outside the vocabulary.
        """
        tokens = self.line.inputs(check_user_codes(user_codes, self.lm))
        drawn, extra = self._frame(tokens, self.line.step, self.seed, self._buffers, self._given)
        sampled = np.array(drawn)[0].astype(np.int32)  # the one host sync of a frame
        if forced is not None:
            sampled = apply_forced(sampled, forced)
        complete = self.line.outputs(sampled)
        return Step(
            text_token=int(sampled[0]),
            sampled=sampled[1:],
            codes=None if complete is None or not self.lm.config.dep_q else complete[1:],
            extra_heads=None if extra is None else np.array(extra)[0, 0],
        )


def override(defaults: SamplingConfig, options: Mapping[str, Any]) -> SamplingConfig:
    """Sampling options over the model's defaults; None keeps the default. Raises MoshiError."""
    known = SamplingConfig.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise MoshiError(f"unknown option {unknown[0]!r}; known: {', '.join(known)}")
    return replace(defaults, **{k: v for k, v in options.items() if v is not None})


def check_seed(seed: int | None) -> int:
    """A seed in range, drawn when None."""
    if seed is None:
        return secrets.randbelow(MAX_SEED)
    if not 0 <= seed < MAX_SEED:
        raise MoshiError(f"the seed must lie between 0 and {MAX_SEED - 1}, not {seed}")
    return int(seed)


def check_user_codes(codes: Any, lm: Lm) -> np.ndarray:
    """int32 [user_q], each -1 or a code. Raises MoshiError."""
    array, config = np.asarray(codes), lm.config
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


def apply_forced(sampled: np.ndarray, forced: Forced) -> np.ndarray:
    """The samples [1 + dep_q] with the forced ones in their place."""
    wanted = np.full_like(sampled, NO_INPUT)
    wanted[0] = forced.text_token
    if forced.codes is not None:
        if np.shape(forced.codes) != sampled[1:].shape:
            raise MoshiError(f"forced codes must have the shape [{len(sampled) - 1}]")
        wanted[1:] = forced.codes
    return np.where(wanted == NO_INPUT, sampled, wanted)
