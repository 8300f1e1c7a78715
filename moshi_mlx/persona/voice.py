"""A voice for PersonaPlex in a `.pt` file: what the model heard of it, as embeddings.

embeddings [N - 1, 1, 1, C]: the summed inputs of positions 0 to N - 2; cache [1, streams,
max_delay + 3]: the delay line after N calls, position p in column p % (max_delay + 3).
Source: NVIDIA/personaplex, `moshi/models/lm.py`, `save_voice_prompt_embeddings`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import WeightsError
from .torch_file import read_torch_file


@dataclass(frozen=True)
class Voice:
    """embeddings: float32 [N - 1, C]; line: int64 [streams, max_delay + 3]."""

    embeddings: np.ndarray
    line: np.ndarray

    @property
    def frames(self) -> int:
        """N."""
        return len(self.embeddings) + 1


def read_voice(path: str | Path, width: int, delays: tuple[int, ...], cards: np.ndarray) -> Voice:
    """width: of the model; cards [streams]: how many tokens of each there are.

    Raises WeightsError for a voice of another model, and for a file that is none.
    """
    found = read_torch_file(path)
    embeddings, cache = found.get("embeddings"), found.get("cache")
    if embeddings is None or cache is None:
        raise WeightsError(f"{path} is no voice: it must hold embeddings and cache")
    if embeddings.ndim != 4 or embeddings.shape[1:3] != (1, 1) or not len(embeddings):
        raise WeightsError(f"{path} is no voice: its embeddings are {list(embeddings.shape)}")
    size = max(delays) + 3
    if embeddings.shape[3] != width or cache.shape != (1, len(delays), size):
        raise WeightsError(
            f"{path} is a voice of another model, {embeddings.shape[3]} wide where this one is "
            f"{width}; choose one that came with this model"
        )
    if not np.issubdtype(embeddings.dtype, np.floating) or not np.isfinite(embeddings).all():
        raise WeightsError(f"{path} is damaged: its embeddings aren't finite numbers")
    voice, later = Voice(embeddings[:, 0, 0].astype(np.float32), cache[0]), np.array(delays) > 0
    N = voice.frames
    last, coming = voice.line[:, (N - 1) % size], voice.line[later, N % size]
    if (
        not np.issubdtype(cache.dtype, np.integer)
        or ((last < 0) | (last >= cards)).any()
        or ((coming < 0) | (coming >= cards[later])).any()
    ):
        raise WeightsError(f"{path} is damaged: its cache holds tokens that there are none of")
    return voice
