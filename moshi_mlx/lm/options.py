"""How a conversation is held, as `Lm.generator` and `Moshi.session` take it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from .sampling import Draws, SamplingOptions
from .state.past import LmPrompt


class ConditionOptions(TypedDict, total=False):
    """conditions: name -> value. Guidance, where cfg_coef isn't 1 (None: as the config has it): a
    second row with `negatives` for conditions (None: all dropped), that hears no text
    (cfg_is_no_text) or nothing up to some step (masked_until); see `conversation.Guidance`.
    """

    conditions: Mapping[str, Any] | None
    cfg_coef: float | None
    negatives: Mapping[str, Any] | None
    cfg_is_no_text: bool | None
    masked_until: int | None


class ConversationOptions(ConditionOptions, SamplingOptions, total=False):
    """How tokens are drawn (`SamplingOptions`), `ConditionOptions`, and

    prompt: what the conversation begins with, made by `Lm.prompt` and its like; its conditions and
    guidance hold (cfg_coef may be another). keep_prompt: its keys and values stay when those of the
    conversation leave the context, which then is shorter by so much; models weren't trained so.
    """

    prompt: LmPrompt | None
    keep_prompt: bool


class GeneratorOptions(ConversationOptions, total=False):
    """`ConversationOptions`, and

    kv_bits: 8 keeps keys and values in 8 bit (None: as the model was loaded); draws: samplers of
    text and audio to take for our own; compiled: False runs every step op by op, as such samplers
    need if they look at values.
    """

    kv_bits: int | None
    draws: Draws | None
    compiled: bool


class BatchOptions(TypedDict, total=False):
    """As `GeneratorOptions`, of several conversations: one value for all, or a sequence of them."""

    text_temperature: float | Sequence[float] | None
    text_top_k: int | None
    text_top_p: float | None
    audio_temperature: float | Sequence[float] | None
    audio_top_k: int | None
    audio_top_p: float | None
    conditions: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None
    cfg_coef: float | Sequence[float] | None
    negatives: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None
    cfg_is_no_text: bool | None
    masked_until: int | Sequence[int] | None
    prompt: LmPrompt | Sequence[LmPrompt | None] | None
    keep_prompt: bool | Sequence[bool]
    kv_bits: int | None
    draws: Draws | None
    compiled: bool
