"""What each key of Kyutai's `config.json` means, as tables: required, defaulted, fixed, beside."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError, suggest
from . import condition_keys
from .json_file import shown
from .json_reader import MAX_SIZE, Reader
from .lm_config import DepthConfig, LmConfig, SamplingConfig, TransformerConfig

REQUIRED = (
    *("dim", "text_card", "n_q", "dep_q", "card", "num_heads", "num_layers", "context", "delays"),
    *("norm", "gating", "positional_embedding"),
)
REQUIRED_DEPTH = ("depformer_dim", "depformer_num_heads", "depformer_num_layers")
# key -> what PyTorch takes when it is missing
DEFAULTS: dict[str, Any] = {
    **{"hidden_scale": 4, "max_period": 10_000, "text_card_out": None, "kv_repeat": 1},
    **{"existing_text_padding_id": 3, "existing_text_end_padding_id": 0},
    **{"demux_second_stream": False, "extra_heads_num_heads": 0, "extra_heads_dim": 6},
    **{"depformer_dim_feedforward": None, "depformer_weights_per_step_schedule": None},
    **{"depformer_low_rank_embeddings": None, "depformer_pos_emb": "sin"},
    **{"cross_attention": False, "conditioners": None, "fuser": None},
    **{"lm_gen_config": None, "model_type": "moshi"},
}
# key -> the values that can be built (the first is the default); anything else is refused
FIXED: dict[str, tuple[Any, ...]] = {
    "causal": (True,),
    "layer_scale": (None,),
    "gating": ("silu",),
    "positional_embedding": ("rope", "rope_concat", "none"),
    "norm": ("rms_norm_f32", "rms_norm"),
    "norm_emb": (False,),
    "bias_proj": (False,),
    "quantize": (False,),
    "lora": (False, True),  # merged already, unless `lora_name` names a file of its own
    "depformer_causal": (True,),
    "depformer_layer_scale": (None,),
    "depformer_gating": ("silu",),
    "depformer_kv_repeat": (1,),
    "depformer_norm": (None, "layer_norm"),
    "depformer_pos_emb": ("sin", "none"),
    "depformer_multi_linear": (True,),
    "depformer_weights_per_step": (True,),
}
# Far above every model there is, far below what would take minutes to count or gigabytes to hold.
MAX_LAYERS, MAX_CODEBOOKS, MAX_DELAY, MAX_CONTEXT = 1000, 1024, 1000, 1_000_000
MAX_SLICE_LAYERS = 10_000  # layers of the depth transformer, counted for each of its slices
NORM_EPS = {"rms_norm_f32": 1e-8, "rms_norm": 1e-5}
# Keys that say nothing about the language model's shape: files, other programs, provenance.
BESIDE = (
    *("moshi_name", "mimi_name", "tokenizer_name", "mimi_config_name", "stt_config", "tts_config"),
    *("model_id", "depformer_context", "depformer_max_period"),
    *("lora_name", "lora_rank", "lora_scaling", "voices_name", "version"),
    *("quantization", "quantization_config", "moshi_local"),  # what `moshi quantize` writes down
)
KNOWN = sorted({*REQUIRED, *REQUIRED_DEPTH, *DEFAULTS, *FIXED, *BESIDE})
GEN_KEYS = {
    "temp": "audio_temperature",
    "temp_text": "text_temperature",
    "text_temp": "text_temperature",  # as Kyutai's TTS repositories write it
    "top_k": "audio_top_k",
    "top_k_text": "text_top_k",
}
GEN_BESIDE = ("use_sampling", "cfg_coef", "cfg_is_no_text", "check")  # check: assertions only


def gated_hidden(dim: int, feedforward: int) -> int:
    """Width of a gated MLP (PyTorch `modules/gating.py`, ActivationGating)."""
    return 21 * dim // 8 if feedforward == 4 * dim else 2 * feedforward // 3


class LmReader(Reader):
    """Reads a language model's config."""

    def __init__(self, raw: Mapping[str, Any], source: str) -> None:
        super().__init__(raw, source, DEFAULTS)

    def check_keys(self) -> None:
        if unknown := sorted(set(self.raw) - set(KNOWN)):
            raise self.fail(f"unknown keys: {', '.join(suggest(key, KNOWN) for key in unknown)}")
        required = REQUIRED + (REQUIRED_DEPTH if self.raw.get("dep_q") else ())
        if missing := [key for key in required if key not in self.raw]:
            raise self.fail(f"missing keys: {', '.join(missing)}")
        for key, allowed in FIXED.items():
            if key.startswith("depformer_") and not self.raw.get("dep_q"):
                continue
            value = self.raw.get(key, allowed[0])
            if value not in (*allowed, None) or (value is None and allowed[0]):  # null is false
                names = " or ".join(repr(a) for a in allowed)
                raise self.fail(f"{key} = {shown(value)} can't be built here, only {names}")

    def lm_config(self) -> LmConfig:
        self.check_keys()
        n_q, dep_q = self.number("n_q", 0, MAX_CODEBOOKS), self.number("dep_q", 0)
        if dep_q > n_q:
            raise self.fail(f"dep_q = {dep_q} is more than n_q = {n_q}")
        conditioners = condition_keys.conditioners(self)
        return LmConfig(
            transformer=self.temporal(),
            depth=self.depth() if dep_q else None,
            text_card=self.number("text_card"),
            text_card_out=self.optional("text_card_out") or self.number("text_card"),
            card=self.number("card"),
            n_q=n_q,
            delays=self.delays(n_q),
            text_padding_id=self.token("existing_text_padding_id"),
            text_end_padding_id=self.token("existing_text_end_padding_id"),
            demux_second_stream=self.flag("demux_second_stream"),
            extra_heads=self.number("extra_heads_num_heads", 0, MAX_CODEBOOKS),
            extra_heads_dim=self.number("extra_heads_dim"),
            conditioners=MappingProxyType(conditioners),
            fuser=condition_keys.fuser(self, conditioners),
            sampling=self.sampling(),
            **self.guidance(),
            model_type=str(self.get("model_type") or "moshi"),
        )

    def token(self, key: str) -> int:
        """A text token, the one beyond the card (the start of a stream) included."""
        return self.number(key, 0, self.number("text_card"))

    def delays(self, n_q: int) -> tuple[int, ...]:
        delays = self.raw["delays"]
        if not isinstance(delays, list) or not all(type(d) is int and d >= 0 for d in delays):
            raise self.fail("delays must be a list of frames (whole numbers from 0 up)")
        if max(delays, default=0) > MAX_DELAY:
            raise self.fail(f"delays must be at most {MAX_DELAY} frames, not {max(delays)}")
        if len(delays) != n_q + 1:
            raise self.fail(f"delays needs {n_q + 1} entries (text and {n_q} codebooks)")
        return tuple(delays)

    def temporal(self) -> TransformerConfig:
        dim, heads = self.heads("dim", "num_heads")
        positions, repeat = self.raw["positional_embedding"], self.number("kv_repeat")
        if heads % repeat:
            raise self.fail(f"kv_repeat = {repeat} does not divide num_heads = {heads}")
        return TransformerConfig(
            dim=dim,
            num_heads=heads,
            num_layers=self.number("num_layers", at_most=MAX_LAYERS),
            hidden=(gated_hidden(dim, self.feedforward(dim)),),
            norm_eps=NORM_EPS[self.raw["norm"]],
            max_period=float(self.positive("max_period")) if positions != "none" else None,
            context=self.number("context", at_most=MAX_CONTEXT),
            cross_attention=self.flag("cross_attention"),
            kv_repeat=repeat,
            rope_halves=positions == "rope_concat",
        )

    def feedforward(self, dim: int) -> int:
        """`hidden_scale` times the width."""
        return int(self.positive("hidden_scale") * dim)

    def depth(self) -> DepthConfig:
        dim, heads = self.heads("depformer_dim", "depformer_num_heads")
        dep_q = self.raw["dep_q"]
        schedule = self.get("depformer_weights_per_step_schedule") or list(range(dep_q))
        whole = isinstance(schedule, list) and all(type(w) is int for w in schedule)
        whole = whole and len(schedule) == dep_q and min(schedule) >= 0 and max(schedule) < dep_q
        if not whole or set(schedule) != set(range(max(schedule) + 1)):
            raise self.fail(
                f"depformer_weights_per_step_schedule must name a set of weights for each of "
                f"{dep_q} slices, counted from 0 without a gap"
            )
        return DepthConfig(
            transformer=TransformerConfig(
                dim=dim,
                num_heads=heads,
                num_layers=self.number("depformer_num_layers", at_most=MAX_SLICE_LAYERS // dep_q),
                hidden=self.depth_hidden(dim, max(schedule) + 1),
                norm_eps=NORM_EPS[self.raw["norm"]],
                max_period=None,
                context=None,  # the cache lives for one frame: depformer_context has no effect
            ),
            schedule=tuple(schedule),
            low_rank=self.optional("depformer_low_rank_embeddings"),
            sin_positions=self.get("depformer_pos_emb") == "sin",
            head_norm=self.raw.get("depformer_norm") == "layer_norm",
        )

    def depth_hidden(self, dim: int, num_sets: int) -> tuple[int, ...]:
        feedforward = self.get("depformer_dim_feedforward")
        if feedforward is None:
            feedforward = self.feedforward(dim)
        if not isinstance(feedforward, list):
            feedforward = [feedforward] * num_sets
        if len(feedforward) != num_sets:
            raise self.fail(f"depformer_dim_feedforward needs {num_sets} entries, one per weights")
        if not all(type(width) is int and 0 < width <= MAX_SIZE for width in feedforward):
            raise self.fail(
                "depformer_dim_feedforward must be a whole number above 0, not "
                f"{shown(feedforward)}"
            )
        return tuple(gated_hidden(dim, width) for width in feedforward)

    def guidance(self) -> dict[str, Any]:
        """Strength of guidance and whether text has a part in it, of `lm_gen_config`."""
        raw = self.mapping("lm_gen_config")
        coef, no_text = raw.get("cfg_coef", 1.0), raw.get("cfg_is_no_text", False)
        if isinstance(coef, bool) or not isinstance(coef, int | float) or not math.isfinite(coef):
            raise self.fail(f"lm_gen_config: cfg_coef must be a number, not {coef!r}")
        if not isinstance(no_text, bool):
            raise self.fail(f"lm_gen_config: cfg_is_no_text must be true or false, not {no_text!r}")
        return {"cfg_coef": float(coef), "cfg_is_no_text": no_text}

    def sampling(self) -> SamplingConfig:
        raw = self.mapping("lm_gen_config")
        known = [*GEN_KEYS, *GEN_BESIDE]
        if unknown := sorted(set(raw) - set(known)):
            names = ", ".join(suggest(key, known) for key in unknown)
            raise self.fail(f"unknown keys in lm_gen_config: {names}")
        found = {name: raw[key] for key, name in GEN_KEYS.items() if key in raw}
        if raw.get("use_sampling") is False:
            found |= {"text_temperature": 0.0, "audio_temperature": 0.0}
        try:
            return SamplingConfig(**found)
        except ConfigError as error:
            raise self.fail(f"lm_gen_config: {error}") from None
