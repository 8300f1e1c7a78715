"""What one 80 ms frame must read from memory: arithmetic on a config and a quantization recipe.

Every weight matrix is read once a frame, of the embedding tables one row per stream, and the keys
and values of the history. Bytes / memory bandwidth is the time a frame can't be faster than.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..config.lm_config import LmConfig, TransformerConfig

KV_BITS = 16


@dataclass(frozen=True)
class Precision:
    """How a weight is stored; 16 and 32 bits mean no quantization."""

    bits: int
    group_size: int = 64
    mode: str = "affine"

    @property
    def quantized(self) -> bool:
        return self.bits < 16

    @property
    def bits_per_weight(self) -> float:
        """With each group's scale and bias of 16 bits (affine), or its scale of 8 (the others)."""
        if not self.quantized:
            return self.bits
        return self.bits + (32 if self.mode == "affine" else 8) / self.group_size


# Kyutai's own choices for q4 and q8 (groups of 32 and 64), MLX's default group elsewhere.
RECIPES: Mapping[str, Precision] = {
    "q3": Precision(3),
    "q4": Precision(4, 32),
    "q5": Precision(5),
    "q6": Precision(6),
    "q8": Precision(8),
    "mxfp4": Precision(4, 32, "mxfp4"),
    "nvfp4": Precision(4, 16, "nvfp4"),
    "mxfp8": Precision(8, 32, "mxfp8"),
    "bf16": Precision(16),
    "fp32": Precision(32),
}


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights, by how often a frame reads them (norms are left out: below 0.01 %)."""

    temporal: int
    depth: int
    text_head: int
    embeddings: int  # tables, of which a frame reads a row per stream
    depth_shared: int = 0  # of `depth`: read again because slices share a set of weights

    @property
    def per_frame(self) -> int:
        return self.temporal + self.depth + self.text_head

    @property
    def total(self) -> int:
        return self.per_frame + self.embeddings - self.depth_shared


def parameters(config: LmConfig) -> Parameters:
    """Count the weights of a model of this shape (conditioners and extra heads left out)."""
    dim = config.transformer.dim
    tables = (config.text_card + 1) * dim + config.n_q * (config.card + 1) * dim
    depth, shared = 0, 0
    if config.depth:
        inner, schedule = config.depth.transformer, config.depth.schedule
        low_rank = config.depth.low_rank
        of_set = [_layers(inner, used) + dim * inner.dim for used in range(max(schedule) + 1)]
        shared = sum(of_set[used] for used in schedule) - sum(of_set)
        depth = shared + sum(of_set) + len(schedule) * inner.dim * (config.card + (low_rank or 0))
        rows = config.text_card + 1 + (len(schedule) - 1) * (config.card + 1)
        tables += rows * (low_rank or inner.dim)
    temporal, text_head = _layers(config.transformer), dim * config.text_card_out
    return Parameters(temporal, depth, text_head, tables, shared)


def weight_bytes_per_frame(config: LmConfig, precision: Precision) -> int:
    """Bytes of weights that one frame reads."""
    return int(parameters(config).per_frame * precision.bits_per_weight / 8)


def model_bytes(config: LmConfig, precision: Precision) -> int:
    """Bytes of all weights: what lies in the file and in memory (embeddings are quantized too)."""
    return int(parameters(config).total * precision.bits_per_weight / 8)


def kv_bytes(config: LmConfig, history_frames: int | None = None, kv_bits: float = KV_BITS) -> int:
    """Bytes of keys and values read after so many frames; None: the context is full.

    `kv_bits`: of one number, scales counted (`cache.bits_per_number`).
    """
    inner = config.transformer
    context = inner.context or 0
    keys = context if history_frames is None else min(history_frames, context)
    return int(2 * inner.num_layers * inner.num_kv_heads * inner.head_dim * keys * kv_bits / 8)


def floor_ms(num_bytes: float, bandwidth_gb_s: float) -> float:
    """Milliseconds to read so many bytes at so many GB/s (10^9 bytes)."""
    return num_bytes / bandwidth_gb_s / 1e6


def _layers(inner: TransformerConfig, weight_set: int = 0) -> int:
    """Attention (queries, keys, values and the output) and gated MLP (three) of every layer."""
    attention = (inner.qkv_dim + inner.dim) * inner.dim
    return inner.num_layers * (attention + 3 * inner.dim * inner.hidden[weight_set])
