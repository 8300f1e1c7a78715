"""How a conversation is held, as `Lm.generator` and `Moshi.session` take it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from .sampling import Draws, SamplingOptions


class ConversationOptions(SamplingOptions, total=False):
    """How tokens are drawn (`SamplingOptions`), and

    conditions: name -> value. Guidance, where cfg_coef isn't 1 (None: as the config has it): a
    second row with `negatives` for conditions (None: all dropped), that hears no text
    (cfg_is_no_text) or nothing up to some step (masked_until); see `conversation.Guidance`.
    """

    conditions: Mapping[str, Any] | None
    cfg_coef: float | None
    negatives: Mapping[str, Any] | None
    cfg_is_no_text: bool | None
    masked_until: int | None


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
    kv_bits: int | None
    draws: Draws | None
    compiled: bool
