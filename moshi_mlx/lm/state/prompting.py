"""Prompts: tokens of a conversation that are all known, made a past that conversations begin with.

Shapes: T positions, K codebooks of a speaker, N frames of a voice, C width.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ...config.lm_config import LmConfig
from ...errors import MoshiError
from ...output.whole_file import OutputError
from ...persona.prompt import (
    UNKNOWN,
    checked_codes,
    checked_ids,
    persona_frames,
    persona_tokens,
    with_voice,
)
from ...persona.voice import read_voice
from ..buffers import Conditions, Sources
from ..compiled_step import FrameModel
from ..conversation import Guidance, guidance_from
from ..layers.kv_ring import check_kv_bits
from ..layers.transformer import Transformer
from ..model_digest import bytes_of
from .beginning import CONDITIONS, GUIDES
from .past import LmPrompt, Past
from .prefill import checked_prompt, line_after, open_end, prefill, prompt_length
from .prompt_cache import PromptCache
from .state_file import VERSION

SAME_EMBEDDING = 0.9  # cosine of two embeddings of one token, one of them quantized


class PromptModel(FrameModel, Protocol):
    """What a prompt needs of a language model beside a conversation's."""

    transformer: Transformer

    def embed(self, inputs: mx.array, given: Sources) -> mx.array: ...


@dataclass(frozen=True)
class PromptTokens:
    """What a model is to hear: tokens int [T + P, 1 + n_q] as `Lm.prompt` takes them, and of the
    first N positions embeddings float [N, C] in place of the tokens' own."""

    tokens: np.ndarray
    embeddings: np.ndarray | None = None


def make_prompt(
    lm: PromptModel,
    heard: PromptTokens,
    kv_bits: int | None,
    options: Mapping[str, Any],
    title: str = "",
    cache: PromptCache | None = None,
) -> LmPrompt:
    """One pass over all positions, or the prompt that `cache` has of it.

    options: `ConditionOptions`. A cache that can't be written to is done without. Raises
    MoshiError.
    """
    config, bits = lm.config, lm.kv_bits if kv_bits is None else kv_bits
    known = (*CONDITIONS, *GUIDES)
    if unknown := sorted(set(options) - set(known)):
        raise MoshiError(f"a prompt has no option {unknown[0]!r}; known: {', '.join(known)}")
    check_kv_bits(bits, config.transformer.head_dim, config.transformer.context or 0)
    guidance = guidance_from(config, options)
    given = lm.conditions(options.get("conditions"), guidance is not None, options.get("negatives"))
    tokens = checked_prompt(heard.tokens, config)
    T = prompt_length(tokens, config, 0 if heard.embeddings is None else len(heard.embeddings))
    tokens = open_end(tokens, T, config)
    x = inputs_of(lm, tokens[:T], heard.embeddings, guidance, given)
    mx.eval(given.arrays())
    key = ""
    if cache is not None:
        key = key_of(lm, bits, guidance, given, tokens, heard.embeddings)
        if (found := cache.get(key, lm)) is not None:
            return found
    past = Past(
        model=lm.model_digest,
        dtype=lm.dtype,
        kv_bits=bits,
        guidance=guidance,
        given=given,
        slots=prefill(lm.transformer, x, given, bits),
        line=line_after(tokens, T, config),
        prompt_frames=T,
    )
    prompt = LmPrompt(past, title)
    if cache is not None:
        with suppress(OutputError):
            cache.put(key, prompt)
    return prompt


def key_of(
    lm: PromptModel,
    kv_bits: int,
    guidance: Guidance | None,
    given: Conditions,
    tokens: np.ndarray,
    embeddings: np.ndarray | None,
) -> str:
    """All that makes a prompt what it is, in 64 hexadecimal digits."""
    kind = f"{VERSION} {lm.model_digest.text} {kv_bits} {guidance} {tokens.shape}"
    whole = hashlib.sha256(kind.encode())
    whole.update(tokens.tobytes())
    if embeddings is not None:
        whole.update(embeddings.tobytes())
    for array in given.arrays():
        whole.update(bytes_of(array).tobytes())
    return whole.hexdigest()


def inputs_of(
    lm: PromptModel,
    tokens: np.ndarray,
    embeddings: np.ndarray | None,
    guidance: Guidance | None,
    given: Conditions,
) -> mx.array:
    """Tokens [T, 1 + n_q] -> the temporal transformer's input [1 or 2, T, C]. Raises MoshiError."""
    rows = tokens[None]
    if guidance is not None:
        begun = np.arange(len(tokens))[:, None] - np.array(lm.config.delays)
        rows = np.stack([tokens, guidance.hide(tokens, begun)])
    if embeddings is None:
        return lm.embed(mx.array(rows.swapaxes(1, 2)), Sources(given.sum)).astype(lm.dtype)
    if guidance is not None:
        raise MoshiError("a voice of embeddings can't be guided; give its codes instead")
    check_embedded(embeddings[0], lm)
    first = mx.array(embeddings)[None].astype(lm.dtype)
    if given.sum is not None:
        first = first + given.sum
    rest = lm.embed(mx.array(rows[:, len(embeddings) :].swapaxes(1, 2)), Sources(given.sum))
    return mx.concatenate([first, rest.astype(lm.dtype)], axis=1)


def check_embedded(first: np.ndarray, lm: PromptModel) -> None:
    """MoshiError where position 0, the same in every voice, isn't what this model makes of it."""
    config = lm.config
    initial = np.array([config.text_card] + [config.card] * config.n_q)[None, :, None]
    own = np.array(lm.embed(mx.array(initial), Sources()).astype(mx.float32)).ravel()
    alike = float(first @ own) / (float(np.linalg.norm(first) * np.linalg.norm(own)) or 1.0)
    if not alike > SAME_EMBEDDING:
        raise MoshiError(
            "this voice was made with other weights than the model's; choose one that came with "
            "it, or give a recording of the voice"
        )


def persona_inputs(
    text_ids: Sequence[int] | np.ndarray,
    voice: str | Path | np.ndarray | None,
    silence: Sequence[int] | np.ndarray,
    sine: Sequence[int] | np.ndarray,
    config: LmConfig,
) -> PromptTokens:
    """What `Lm.persona_prompt` takes -> what the model is to hear. Raises MoshiError."""
    K = config.dep_q
    if not K or config.user_q != K:
        raise MoshiError(
            f"this model speaks {K} codebooks and hears {config.user_q}; a persona needs as many "
            "of both: load PersonaPlex"
        )
    silence = checked_codes(silence, K, config.card, "silence")
    sine = checked_codes(sine, K, config.card, "sine")
    ids = checked_ids(text_ids, config.text_card)
    if not isinstance(voice, str | Path):
        codes = voice_codes(voice, config)
        frames = persona_frames(ids, codes, silence, config.text_padding_id)
        return PromptTokens(persona_tokens(frames, sine, config.delays))
    cards = np.array([config.text_card + 1] + [config.card + 1] * config.n_q)
    read = read_voice(voice, config.transformer.dim, config.delays, cards)
    unknown = np.full((K, read.frames), UNKNOWN)
    frames = persona_frames(ids, unknown, silence, config.text_padding_id)
    tokens = persona_tokens(frames, sine, config.delays)
    return PromptTokens(with_voice(tokens, read, config.delays), read.embeddings)


def voice_codes(voice: Any, config: LmConfig) -> np.ndarray:
    """int [K, N] of a voice, or of none. Raises MoshiError."""
    if voice is None:
        return np.zeros((config.dep_q, 0), np.int64)
    codes = np.asarray(voice)
    if codes.ndim != 2 or len(codes) != config.dep_q or not np.issubdtype(codes.dtype, np.integer):
        raise MoshiError(
            f"a voice is a file, or Mimi's codes [{config.dep_q}, frames] of it, not "
            f"{codes.dtype} {list(codes.shape)}"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= config.card):
        raise MoshiError(f"the codes of a voice must lie between 0 and {config.card - 1}")
    return codes
