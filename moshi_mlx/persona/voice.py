"""A voice for PersonaPlex in a file, `.pt` or `.safetensors`: what the model heard of it.

embeddings [N - 1, 1, 1, C]: the summed inputs of positions 0 to N - 2; cache [1, streams,
max_delay + 3]: the delay line after N calls, position p in column p % (max_delay + 3).
Source: NVIDIA/personaplex, `moshi/models/lm.py`, `save_voice_prompt_embeddings`.
"""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..errors import WeightsError
from ..tensor_files.reading import read_safetensors
from .torch_file import FILE_MAX_BYTES, read_torch_file

HALF = (mx.float16, mx.bfloat16)


@dataclass(frozen=True)
class Voice:
    """embeddings: float32 [N - 1, C]; line: int64 [streams, max_delay + 3]."""

    embeddings: np.ndarray
    line: np.ndarray

    def __repr__(self) -> str:
        return f"<Voice of {self.frames} frames>"

    @property
    def frames(self) -> int:
        """N."""
        return len(self.embeddings) + 1


def read_voice(path: str | Path, width: int, delays: tuple[int, ...], cards: np.ndarray) -> Voice:
    """width: of the model; cards [streams]: how many tokens of each there are.

    Raises WeightsError for a voice of another model, and for a file that is none.
    """
    found = voice_tensors(path)
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
    voice = Voice(embeddings[:, 0, 0].astype(np.float32), cache[0])
    good = np.issubdtype(cache.dtype, np.integer)
    for later in range(1 + max(delays)):  # what frames up to the last bring then
        held = np.array(delays) >= later
        tokens = voice.line[held, (voice.frames - 1 + later) % size]
        good &= bool(((tokens >= 0) & (tokens < cards[held])).all())
    if not good:
        raise WeightsError(f"{path} is damaged: its cache holds tokens that there are none of")
    return voice


def voice_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors in a voice's file, bfloat16 as float32, not looked at yet. Raises WeightsError.

    A file of safetensors is what other programs make of a `.pt`: the same two tensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    if path.is_file() and path.stat().st_size > FILE_MAX_BYTES:
        raise WeightsError(f"{path} is no voice: it is larger than any")
    tensors = read_safetensors(path)
    wide = {n: t.astype(mx.float32) if t.dtype in HALF else t for n, t in tensors.items()}
    return {name: np.array(tensor) for name, tensor in wide.items()}
