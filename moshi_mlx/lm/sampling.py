"""Drawing tokens: temperature and top-k (or top-p) as in PyTorch, in fp32, without a full sort.

A draw is an argmax over logits / temperature + Gumbel noise, which has exactly the distribution
of PyTorch's `multinomial`. Source: PyTorch `moshi/utils/sampling.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict

import mlx.core as mx

from ..config.lm_config import SamplingConfig
from ..errors import MoshiError

# Metal's `partition` is a full sort: of up to so many numbers of 4 bytes in one kernel (512 threads
# with 4 each), of more by merging, two kernels a level (MLX's mlx/backend/metal/sort.cpp).
BLOCK = 2048


class SamplingOptions(TypedDict, total=False):
    """How tokens are drawn. None: as the model's config has it.

    Temperature 0 is greedy; top-k 0 allows all tokens; top-p, where > 0, replaces top-k.
    """

    text_temperature: float | None
    text_top_k: int | None
    text_top_p: float | None
    audio_temperature: float | None
    audio_top_k: int | None
    audio_top_p: float | None


def override(defaults: SamplingConfig, options: Mapping[str, Any]) -> SamplingConfig:
    """Sampling options over the model's defaults; None keeps the default.

    Raises MoshiError for a name that there isn't, ConfigError for values out of range.
    """
    known = SamplingConfig.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise MoshiError(f"unknown option {unknown[0]!r}; known: {', '.join(known)}")
    return replace(defaults, **{k: v for k, v in options.items() if v is not None})


class Draw(Protocol):
    """What chooses tokens; `Sampler`, or another one for `generator(draws=...)`."""

    @property
    def greedy(self) -> bool:
        """Whether no noise is wanted."""
        ...

    def __call__(self, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        """Logits [..., V] and Gumbel noise of the same shape -> tokens [...]."""
        ...


Draws = tuple[Draw, Draw]  # of text and audio


@dataclass(frozen=True)
class Sampler:
    """What shapes the graph of a draw; the temperature itself is an input of the graph.

    mixed: of several conversations some, those of temperature 0, are greedy.
    """

    greedy: bool
    top_k: int
    top_p: float
    mixed: bool = False

    def __call__(self, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        """Logits [..., V] and Gumbel noise of the same shape -> tokens [...]."""
        if self.greedy:
            return mx.argmax(logits, axis=-1)
        if self.mixed:
            noise = mx.where(temperature > 0, noise, 0)
            temperature = mx.where(temperature > 0, temperature, 1)
        scaled = logits.astype(mx.float32) / temperature
        if self.top_p > 0:
            scaled = keep_top_p(scaled, self.top_p)
        elif 0 < self.top_k < logits.shape[-1]:  # looked for before the division: a kernel less
            scaled = mx.where(logits >= kth_largest(logits, self.top_k), scaled, -mx.inf)
        return mx.argmax(scaled + noise, axis=-1)


def kth_largest(logits: mx.array, k: int) -> mx.array:
    """The k-th largest of [..., V], 1 <= k <= V -> [..., 1], exactly.

    The k largest are among the k largest of each of some blocks.
    """
    blocks = blocks_for(logits.shape[-1], k)
    if blocks > 1:
        rows = logits.reshape(*logits.shape[:-1], blocks, -1)
        largest = mx.partition(rows, -k, axis=-1)[..., -k:]
        logits = largest.reshape(*logits.shape[:-1], blocks * k)
    at = logits.shape[-1] - k
    return mx.partition(logits, at, axis=-1)[..., at : at + 1]


def blocks_for(V: int, k: int) -> int:
    """Into how many equal blocks to cut V numbers first; 1 where that would save nothing."""
    if V <= BLOCK:
        return 1
    cuts = range(-(-V // BLOCK), V // k + 1)
    return next((n for n in cuts if V % n == 0 and n * k <= V // 2), 1)


def keep_top_p(logits: mx.array, top_p: float) -> mx.array:
    """-inf for all but the likeliest tokens whose probabilities, those before it summed, <= p."""
    probs = mx.softmax(logits, axis=-1, precise=True)
    ordered = -mx.sort(-probs, axis=-1)
    dropped = mx.cumsum(ordered, axis=-1) - ordered > top_p
    smallest = mx.where(dropped, mx.inf, ordered).min(axis=-1, keepdims=True)
    return mx.where(probs >= smallest, logits, -mx.inf)


def samplers(*configs: SamplingConfig) -> tuple[Sampler, Sampler]:
    """The samplers of text and audio, of one or several conversations in a batch.

    Raises MoshiError where these differ in more than their temperatures.
    """
    kinds = {(c.text_top_k, c.text_top_p, c.audio_top_k, c.audio_top_p) for c in configs}
    if len(kinds) > 1:
        raise MoshiError("conversations of a batch share top-k and top-p; give one value for all")
    text_k, text_p, audio_k, audio_p = kinds.pop()
    text = {config.text_temperature == 0 for config in configs}
    audio = {config.audio_temperature == 0 for config in configs}
    return (
        Sampler(text == {True}, text_k, text_p, mixed=len(text) > 1),
        Sampler(audio == {True}, audio_k, audio_p, mixed=len(audio) > 1),
    )
