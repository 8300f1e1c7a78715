"""The language model's sizes and settings, as frozen dataclasses.

Source of keys, defaults and meaning: PyTorch `moshi/models/loaders.py` and `lm.py` (0.2.13).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError

NO_INPUT = -1  # embeds to exactly zero
MAX_TEMPERATURE, MAX_TOP_K, MAX_SEED = 1000.0, 2**31 - 1, 2**32
NOT_GENERATED = -2  # a slot of the delay line that nothing was written to
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one transformer. `hidden`: width of the gated MLP, one entry per set of weights."""

    dim: int
    num_heads: int
    num_layers: int
    hidden: tuple[int, ...]
    norm_eps: float
    max_period: float | None  # RoPE base; None: no rotation
    context: int | None  # keys a query sees, itself included; None: all
    cross_attention: bool = False
    kv_repeat: int = 1  # query heads that share a head of keys and values
    rope_halves: bool = False  # RoPE pairs a number with the one half a head on, not the next

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.num_heads

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_heads // self.kv_repeat

    @property
    def qkv_dim(self) -> int:
        """Rows of the matrix that makes queries, keys and values."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim


@dataclass(frozen=True)
class DepthConfig:
    """The depth transformer: `schedule[slice]` is the set of weights that a slice uses."""

    transformer: TransformerConfig
    schedule: tuple[int, ...]
    low_rank: int | None
    sin_positions: bool
    head_norm: bool = False  # a LayerNorm of its own before each slice's head
    dropped: int = 0  # slices of the file after these, each with its weights, that aren't built

    @property
    def num_slices(self) -> int:
        """Codebooks that are generated."""
        return len(self.schedule)

    @property
    def num_weight_sets(self) -> int:
        """Sets of weights, which slices may share."""
        return max(self.schedule) + 1

    @property
    def file_weight_sets(self) -> int:
        """Sets that a PyTorch file holds one below the other."""
        return self.num_weight_sets + self.dropped


@dataclass(frozen=True)
class ConditionerConfig:
    """One conditioner: kind "lut" (a word from `possible_values`) or "tensor"."""

    kind: str
    dim: int
    num_bins: int = 0
    possible_values: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FuserConfig:
    """How conditions enter: summed to every input, or as the source of cross attention."""

    sum: tuple[str, ...] = ()
    cross: tuple[str, ...] = ()
    cross_pos_emb: bool = False
    cross_pos_emb_scale: float = 1.0


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults of PyTorch's LMGen. Temperature 0 is greedy; top-p, where > 0, replaces top-k."""

    text_temperature: float = 0.7
    text_top_k: int = 25
    text_top_p: float = 0.0
    audio_temperature: float = 0.8
    audio_top_k: int = 250
    audio_top_p: float = 0.0

    def __post_init__(self) -> None:
        for name in ("text", "audio"):
            temperature = getattr(self, f"{name}_temperature")
            top_k, top_p = getattr(self, f"{name}_top_k"), getattr(self, f"{name}_top_p")
            if not _is_number(temperature) or not 0 <= temperature <= MAX_TEMPERATURE:
                raise ConfigError(
                    f"{name}_temperature must be a number from 0 (greedy) up to "
                    f"{MAX_TEMPERATURE:g}, not {temperature!r}"
                )
            if type(top_k) is not int or not 0 <= top_k <= MAX_TOP_K:
                raise ConfigError(
                    f"{name}_top_k must be a whole number from 0 (all tokens) up, not {top_k!r}"
                )
            if not _is_number(top_p) or not 0 <= top_p <= 1:
                raise ConfigError(f"{name}_top_p must lie between 0 and 1, not {top_p!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class LmConfig:
    """The language model as `config.json` describes it."""

    transformer: TransformerConfig
    depth: DepthConfig | None
    text_card: int
    text_card_out: int
    card: int
    n_q: int
    delays: tuple[int, ...]  # text first, then every codebook
    text_padding_id: int = 3
    text_end_padding_id: int = 0
    demux_second_stream: bool = False
    extra_heads: int = 0
    extra_heads_dim: int = 6
    conditioners: Mapping[str, ConditionerConfig] = field(default_factory=lambda: EMPTY)
    fuser: FuserConfig = field(default_factory=FuserConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    cfg_coef: float = 1.0  # of guidance; 1: none
    cfg_is_no_text: bool = False
    model_type: str = "moshi"

    @property
    def dep_q(self) -> int:
        """Codebooks that the model generates; 0: it writes text alone."""
        return self.depth.num_slices if self.depth else 0

    @property
    def user_q(self) -> int:
        """Codebooks that come from outside: the user's, or all of them for speech to text."""
        return self.n_q - self.dep_q

    @property
    def predicts_user(self) -> bool:
        """Whether the depth transformer's second half predicts the user's codes, as PersonaPlex's.

        Two speakers have the same delays one after the other; a lone speaker's rise only once.
        """
        if self.model_type == "personaplex":
            return self.dep_q == self.n_q > 1
        if self.model_type == "tts":  # hears nobody, whatever its delays
            return False
        half = self.n_q // 2
        own, others = self.delays[1 : 1 + half], self.delays[1 + half :]
        return self.dep_q == self.n_q > 1 and own == others and len(set(own)) > 1

    def with_slices(self, count: int) -> "LmConfig":
        """Only the first depth slices: those after them never influence these.

        Raises ConfigError for more than there are, or slices that share weights with dropped ones.
        """
        depth = self.depth
        if depth is None or not 1 <= count <= self.dep_q:
            raise ConfigError(f"the depth transformer has {self.dep_q} slices, not {count}")
        if count == self.dep_q:
            return self
        if depth.schedule != tuple(range(self.dep_q)):
            raise ConfigError("slices that share weights can't be dropped")
        inner = replace(depth.transformer, hidden=depth.transformer.hidden[:count])
        dropped = depth.dropped + self.dep_q - count
        kept = replace(depth, transformer=inner, schedule=depth.schedule[:count], dropped=dropped)
        return replace(self, depth=kept)

    @property
    def max_delay(self) -> int:
        """Frames until every codebook of a frame is there."""
        return max(self.delays)

    @property
    def mimi_codebooks(self) -> int:
        """How many codebooks Mimi must produce and accept (PyTorch: CheckpointInfo.get_mimi)."""
        return max(self.dep_q, self.user_q)
