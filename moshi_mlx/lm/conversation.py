"""One conversation on the host: its tokens so far, its seed, how it is drawn and guided.

What it has on the device is a row of `Held`, or with guidance two.
"""

import copy
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config.lm_config import MAX_SEED, NO_INPUT, LmConfig, SamplingConfig
from ..errors import MoshiError, UsageError
from .delay_line import DelayLine, LineState


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
class Guidance:
    """Logits away from those of a row with other conditions, without text, or without input.

    no_text: that row hears no text, and text itself isn't guided; masked_until: it hears nothing
    at all up to so many steps behind each delay. Source: PyTorch `LMGen`, `cfg_is_no_text` and
    `cfg_is_masked_until`.
    """

    coef: float
    no_text: bool = False
    masked_until: int | None = None

    def negative(self, tokens: np.ndarray, line: DelayLine) -> np.ndarray:
        """What the other row is given for input tokens [1 + n_q]."""
        return self.hide(tokens, line.step - line.delays)

    def hide(self, tokens: np.ndarray, begun: np.ndarray) -> np.ndarray:
        """The same for any number of steps: tokens [..., 1 + n_q], begun: steps since each stream
        began, of the same shape."""
        hidden = np.zeros(begun.shape, bool)
        if self.masked_until is not None:
            hidden |= begun <= self.masked_until
        hidden[..., 0] |= self.no_text
        return np.where(hidden & (begun > 0), NO_INPUT, tokens)


class LmConversation:
    """Tokens in their order; nothing here knows of the device."""

    def __init__(
        self, config: LmConfig, seed: int, sampling: SamplingConfig, guidance: Guidance | None
    ) -> None:
        self.config, self.seed = config, seed
        self.sampling, self.guidance = sampling, guidance
        self.line = DelayLine(config)
        self.prompt_frames = 0  # first positions that a prompt gave
        self.pinned = 0  # how many of those keep their keys and values for ever

    def resume(self, line: LineState, prompt_frames: int, pinned: int) -> None:
        """Go on from where another one was."""
        self.line.resume(line)
        self.prompt_frames, self.pinned = prompt_frames, pinned

    def fork(self) -> "LmConversation":
        """Another conversation that goes on from here."""
        twin = copy.copy(self)
        twin.line = self.line.fork()
        return twin

    def inputs(self, user_codes: np.ndarray | None) -> np.ndarray:
        """The step's input tokens, int [1 or 2, 1 + n_q]; None: the user's codes come later."""
        tokens = self.line.inputs(user_codes)
        if self.guidance is None:
            return tokens[None]
        return np.stack([tokens, self.guidance.negative(tokens, self.line)])

    def user_codes(self, codes: Any) -> np.ndarray:
        """int32 [user_q]; anything where a prompt gives them. Raises MoshiError."""
        if codes is None and self.line.prompted:
            return np.full(self.config.user_q, NO_INPUT, np.int32)
        return check_user_codes(codes, self.config)

    def wanted(self, forced: Forced | None) -> np.ndarray:
        """int32 [1 + dep_q]: tokens in place of this step's samples, -1 where these stand."""
        wanted, given = wanted_tokens(forced, self.config), self.line.given_own()
        return wanted if given is None else np.where(given == NO_INPUT, wanted, given)

    def take(
        self, drawn: np.ndarray, wanted: np.ndarray, extra_heads: np.ndarray | None = None
    ) -> Step:
        """Move on by a frame: drawn and forced tokens [1 + dep_q] each."""
        sampled = np.where(wanted == NO_INPUT, drawn, wanted)
        complete = self.line.outputs(sampled)
        return Step(
            text_token=int(sampled[0]),
            sampled=sampled[1:],
            codes=None if complete is None or not self.config.dep_q else complete[1:],
            extra_heads=extra_heads,
        )


def guidance_from(config: LmConfig, options: Mapping[str, Any]) -> Guidance | None:
    """Guidance by `GeneratorOptions`, the config's where these don't say; None for none of it.

    Raises MoshiError.
    """
    coef, no_text = options.get("cfg_coef"), options.get("cfg_is_no_text")
    coef = config.cfg_coef if coef is None else coef
    if isinstance(coef, bool) or not isinstance(coef, int | float) or not math.isfinite(coef):
        raise MoshiError(f"cfg_coef must be a number, 1 for no guidance, not {coef!r}")
    until = options.get("masked_until")
    if until is not None and (type(until) is not int or until < 0):
        raise MoshiError(f"masked_until must be a whole number of steps, not {until!r}")
    if coef == 1:
        if options.get("negatives") is not None:
            raise MoshiError("negatives are for guidance: give cfg_coef too, 2 or 3 as a rule")
        return None
    return Guidance(float(coef), config.cfg_is_no_text if no_text is None else no_text, until)


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


def wanted_tokens(forced: Forced | None, config: LmConfig) -> np.ndarray:
    """int32 [1 + dep_q]: the forced tokens, -1 where the model's own samples stand."""
    wanted = np.full(1 + config.dep_q, NO_INPUT, np.int32)
    if forced is None:
        return wanted
    wanted[0] = forced.text_token
    if forced.codes is not None:
        if np.shape(forced.codes) != (config.dep_q,):
            raise MoshiError(f"forced codes must have the shape [{config.dep_q}]")
        wanted[1:] = forced.codes
    return wanted
