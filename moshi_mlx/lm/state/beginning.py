"""How a conversation begins: with nothing, with a prompt, or where another one was.

Shapes: r rows of one conversation (1, with guidance 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

from ...config.lm_config import LmConfig
from ...errors import MoshiError, UsageError
from ..buffers import Buffers, Conditions
from ..compiled_step import FrameModel, Held
from ..conversation import Guidance, LmConversation, check_seed, guidance_from
from ..layers.kv_ring import Ring, read_slots, write_slots
from ..sampling import Draws, override
from .past import LmPrompt, LmState, Past

GUIDES = ("cfg_coef", "cfg_is_no_text", "masked_until")
CONDITIONS = ("conditions", "negatives")
PROMPT = ("prompt", "keep_prompt")
OTHERS = (*GUIDES, *CONDITIONS, *PROMPT)  # options that say nothing about drawing tokens


@dataclass(frozen=True)
class Beginning:
    """A conversation on the host, its conditions [r, ...], and what its rings are to hold."""

    talk: LmConversation
    given: Conditions
    slots: tuple[Ring, ...] = ()

    def fill(self, buffers: Buffers, rows: Sequence[int]) -> None:
        """Put its slots into its rows of a step's rings."""
        for layer, slots in enumerate(self.slots):
            ring, buffers.rings[layer] = buffers.rings[layer], ()  # nobody else holds it: in place
            buffers.rings[layer] = write_slots(ring, rows, slots)
        mx.eval(buffers.arrays())


def begin(lm: FrameModel, seed: int | None, kv_bits: int, options: Mapping[str, Any]) -> Beginning:
    """A conversation by `ConversationOptions`. Raises MoshiError."""
    others = {name: options.get(name) for name in OTHERS}
    sampling = override(lm.config.sampling, {k: v for k, v in options.items() if k not in OTHERS})
    prompt, keep = others["prompt"], others["keep_prompt"]
    if prompt is None:
        if keep:
            raise UsageError("keep_prompt is for a conversation that begins with a prompt")
        guidance = guidance_from(lm.config, others)
        given = lm.conditions(others["conditions"], guidance is not None, others["negatives"])
        return Beginning(LmConversation(lm.config, check_seed(seed), sampling, guidance), given)
    if not isinstance(prompt, LmPrompt):
        raise MoshiError(f"a prompt is made by lm.prompt(...), not {type(prompt).__name__}")
    past = prompt.past
    check_past(past, lm, kv_bits)
    check_conditions(past, lm, others)
    guidance = prompted_guidance(past, lm.config, others)
    talk = LmConversation(lm.config, check_seed(seed), sampling, guidance)
    talk.resume(past.line, prompt.frames, pinned_frames(prompt, lm.config) if keep else 0)
    return Beginning(talk, past.given, past.slots)


def resume(lm: FrameModel, state: LmState, draws: Draws | None) -> Beginning:
    """Where the conversation of `state` was. Raises MoshiError for one of another model."""
    past = state.past
    if state.own_draws and draws is None:
        raise MoshiError("this conversation had samplers of its own; resume it with draws=, too")
    check_past(past, lm, past.kv_bits)
    talk = LmConversation(lm.config, state.seed, state.sampling, past.guidance)
    talk.resume(past.line, past.prompt_frames, state.pinned)
    return Beginning(talk, past.given, past.slots)


def check_past(past: Past, lm: FrameModel, kv_bits: int) -> None:
    """MoshiError for a past that another model, or another kind of cache, has."""
    if past.model is not lm.model_digest and past.model.text != lm.model_digest.text:
        raise MoshiError("this prompt or snapshot was made with another model; make it anew")
    if past.kv_bits != kv_bits:
        raise MoshiError(
            f"this prompt was made with kv_bits={past.kv_bits}; give the conversation the same"
        )


def check_conditions(past: Past, lm: FrameModel, others: Mapping[str, Any]) -> None:
    """MoshiError where a conversation asks for other conditions than its prompt was heard with."""
    if all(others[name] is None for name in CONDITIONS):
        return
    given = lm.conditions(others["conditions"], past.guidance is not None, others["negatives"])
    for mine, asked in zip(past.given.arrays(), given.arrays(), strict=True):
        if not bool(mx.array_equal(mine, asked).item()):
            raise MoshiError("the prompt was made with other conditions; make it with these, too")


def prompted_guidance(past: Past, config: LmConfig, others: Mapping[str, Any]) -> Guidance | None:
    """The prompt's guidance, whose strength alone may be another. Raises MoshiError."""
    if all(others[name] is None for name in GUIDES):
        return past.guidance
    had = past.guidance
    kept = (
        {}
        if had is None
        else {"cfg_coef": had.coef, "cfg_is_no_text": had.no_text, "masked_until": had.masked_until}
    )
    asked = {name: others[name] for name in GUIDES if others[name] is not None}
    guidance = guidance_from(config, {**kept, **asked})
    if guidance != had and (
        guidance is None or had is None or replace(guidance, coef=had.coef) != had
    ):
        raise MoshiError("the prompt was made with other guidance; make it with these options, too")
    return guidance


def pinned_frames(prompt: LmPrompt, config: LmConfig) -> int:
    """How many positions `keep_prompt` keeps. Raises MoshiError where nothing else would fit."""
    context = config.transformer.context or 0
    if prompt.frames >= context:
        raise MoshiError(
            f"a prompt of {prompt.frames} frames can't be kept in a context of {context}; "
            "shorten it, or leave keep_prompt out"
        )
    return prompt.frames


def state_of(
    talk: LmConversation,
    held: Held,
    lm: FrameModel,
    rows: Sequence[int],
    kv_bits: int,
    own_draws: bool,
) -> LmState:
    """A conversation as it is between two steps; `rows`: its rows of a step."""
    rows, n = list(rows), min(talk.line.step, lm.config.transformer.context or 0)
    slots = tuple(read_slots(ring, rows, n) for ring in held.buffers.rings)
    own = [array[mx.array(rows)] for array in held.given.arrays()]
    given = Conditions.of_arrays(own, summed=held.given.sum is not None)
    mx.eval(slots, given.arrays())
    past = Past(
        model=lm.model_digest,
        dtype=lm.dtype,
        kv_bits=kv_bits,
        guidance=talk.guidance,
        given=given,
        slots=slots,
        line=talk.line.state(),
        prompt_frames=talk.prompt_frames,
    )
    return LmState(past, talk.seed, talk.sampling, talk.pinned, own_draws)
