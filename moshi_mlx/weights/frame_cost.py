"""What one 80 ms frame must read from memory: arithmetic on a config and a recipe.

Every weight is read once a frame, of the embedding tables one row per stream, and the keys and
values of the history. Bytes / memory bandwidth is the time a frame can't be faster than.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..config.lm_config import LmConfig
from .recipes import Recipe, formats
from .tensor_names import expected, first_copy

KV_BITS = 16
# Embedding tables (their projections are read), and what no frame of a talk goes through.
UNREAD = re.compile(
    r"(text_emb|audio_embs\.\d+|depformer\.slices\.\d+\.emb)\.weight|(condition_provider|extra_heads)\..+"
)
CROSS = re.compile(r".+\.cross_attention\.in_proj\.weight")  # keys and values: once a conversation


@dataclass(frozen=True)
class Weights:
    """Bytes of one tensor in a file of a recipe. `copy`: a set of weights that slices share, again.

    A file repeats what slices share, memory holds it once, and a frame reads it for each slice.
    """

    name: str
    num_weights: int
    num_bytes: float
    copy: bool

    @property
    def read_each_frame(self) -> bool:
        return UNREAD.fullmatch(self.name) is None

    @property
    def frame_bytes(self) -> float:
        """What a frame reads of it."""
        if not self.read_each_frame:
            return 0
        return self.num_bytes / 3 if CROSS.fullmatch(self.name) else self.num_bytes


def weights(config: LmConfig, recipe: Recipe) -> Iterator[Weights]:
    """Every tensor of a model of this shape."""
    chosen = formats(config, recipe)
    for name, shape in expected(config).items():
        layer = name.rpartition(".")[0]
        count = 1
        for n in shape:
            count *= n
        size = count * chosen[name].bits_per_weight / 8
        yield Weights(name, count, size, first_copy(layer, config) != layer)


def weight_bytes_per_frame(config: LmConfig, recipe: Recipe) -> int:
    """Bytes of weights that one frame reads."""
    return int(sum(w.frame_bytes for w in weights(config, recipe)))


def model_bytes(config: LmConfig, recipe: Recipe) -> int:
    """Bytes of all weights in memory (embeddings are quantized too)."""
    return int(sum(w.num_bytes for w in weights(config, recipe) if not w.copy))


def kv_bytes(config: LmConfig, history_frames: int | None = None, kv_bits: float = KV_BITS) -> int:
    """Bytes of KV cache read after so many frames; None: the context is full.

    `kv_bits`: of one number, scales counted (`cache.bits_per_number`).
    """
    inner = config.transformer
    context = inner.context or 0
    keys = context if history_frames is None else min(history_frames, context)
    return int(2 * inner.num_layers * inner.num_kv_heads * inner.head_dim * keys * kv_bits / 8)


def floor_ms(num_bytes: float, bandwidth_gb_s: float) -> float:
    """Milliseconds to read so many bytes at so many GB/s (10^9 bytes)."""
    return num_bytes / bandwidth_gb_s / 1e6
