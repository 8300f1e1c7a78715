"""Helium's sizes from a `config.json` in transformers' keys or Kyutai's: honoured or refused.

Source of transformers' keys and defaults: `configuration_helium.py` (transformers 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.json_file import shown
from ..config.json_reader import MAX_SIZE, Reader, is_number
from ..config.lm_config import TransformerConfig
from ..config.lm_keys import MAX_LAYERS
from ..config.presets import raw_preset
from ..config.reading import parse_config, read_config
from ..errors import suggest

REQUIRED = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    "vocab_size",
)
# key -> the values that can be built (the first is the default); anything else is refused
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_scaling": (None,),
    "is_encoder_decoder": (False,),
    "is_decoder": (False, True),
    "add_cross_attention": (False,),
}
HONOURED = (
    *("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "rope_parameters"),
    *("tie_word_embeddings", "bos_token_id", "eos_token_id"),
)
# Keys that change no number: provenance, training, what to return, what others write down.
BESIDE = (
    *("model_type", "architectures", "dtype", "torch_dtype", "transformers_version"),
    *("_name_or_path", "_attn_implementation_autoset", "auto_map", "tokenizer_class"),
    *("attention_dropout", "initializer_range", "use_cache", "max_position_embeddings"),
    *("pad_token_id", "return_dict", "output_hidden_states", "output_attentions"),
    *("chunk_size_feed_forward", "id2label", "label2id", "problem_type", "pretraining_tp"),
    *("quantization", "quantization_config", "moshi_local", "moshi_name", "tokenizer_name"),
)
KNOWN = sorted({*REQUIRED, *FIXED, *HONOURED, *BESIDE})
ROPE_KEYS = ("rope_theta", "rope_type", "partial_rotary_factor")
ROPE_THETA = 100_000.0
NORM_EPS = 1e-8
BOS, EOS = 1, 2


@dataclass(frozen=True)
class HeliumConfig:
    """The temporal transformer alone, as a text model. `transformer.context` None: no window."""

    transformer: TransformerConfig
    kv_heads: int  # heads of keys and values; each serves num_heads / kv_heads heads of queries
    vocab_size: int
    tied: bool = False  # the embedding is the head too
    bos_token_id: int = BOS
    eos_token_ids: tuple[int, ...] = (EOS,)


def load_helium_config(folder: Path) -> HeliumConfig:
    """The HeliumConfig of a folder; without a `config.json` it is the 2B. Raises ConfigError."""
    path = folder / "config.json"
    raw = read_config(folder) if path.exists() else raw_preset("helium-2b")
    return parse_helium_config(raw, str(path))


def parse_helium_config(raw: Mapping[str, Any], source: str = "config.json") -> HeliumConfig:
    """transformers' or Kyutai's keys -> HeliumConfig. Raises ConfigError naming the key."""
    reader = Reader(raw, source)
    if "hidden_size" in raw:
        return from_transformers(reader)
    if "dim" in raw:
        return from_kyutai(reader)
    raise reader.fail("describes no Helium: neither hidden_size (transformers) nor dim (Kyutai)")


def from_kyutai(reader: Reader) -> HeliumConfig:
    """Kyutai's keys, as in the preset helium-2b: a language model without audio."""
    config = parse_config(reader.raw, reader.source)
    speech = {
        "n_q": config.n_q,
        "conditioners": config.conditioners,
        "cross_attention": config.transformer.cross_attention,
        "demux_second_stream": config.demux_second_stream,
        "extra_heads_num_heads": config.extra_heads,
    }
    if found := [key for key, value in speech.items() if value]:
        raise reader.fail(
            f"{', '.join(found)}: this is a speech model, not Helium; use `moshi file` or "
            "moshi_mlx.load for it"
        )
    if config.text_card_out != config.text_card:
        raise reader.fail("text_card_out must equal text_card in a text model")
    return HeliumConfig(config.transformer, config.transformer.num_heads, config.text_card)


def from_transformers(reader: Reader) -> HeliumConfig:
    """transformers' keys; what would change the model and isn't known is refused by name."""
    raw = reader.raw
    check_keys(reader)
    dim, heads = reader.heads("hidden_size", "num_attention_heads")
    if raw.get("head_dim") not in (None, dim // heads):
        raise reader.fail(
            f"head_dim = {shown(raw['head_dim'])} can't be built here, only {dim // heads} "
            "(hidden_size / num_attention_heads)"
        )
    kv_heads = reader.optional("num_key_value_heads") or heads
    if heads % kv_heads:
        raise reader.fail(f"num_key_value_heads = {kv_heads} does not divide {heads} heads")
    eps = NORM_EPS if raw.get("rms_norm_eps") is None else raw["rms_norm_eps"]
    if not is_number(eps) or not eps > 0:
        raise reader.fail(f"rms_norm_eps must be a number above 0, not {shown(eps)}")
    transformer = TransformerConfig(
        dim=dim,
        num_heads=heads,
        num_layers=reader.number("num_hidden_layers", at_most=MAX_LAYERS),
        hidden=(reader.number("intermediate_size"),),
        norm_eps=float(eps),
        max_period=rope_theta(reader),
        context=None,
    )
    return HeliumConfig(
        transformer,
        kv_heads,
        reader.number("vocab_size"),
        tied=bool(raw.get("tie_word_embeddings", False)),
        bos_token_id=token_ids(reader, "bos_token_id", BOS)[0],
        eos_token_ids=token_ids(reader, "eos_token_id", EOS),
    )


def check_keys(reader: Reader) -> None:
    raw = reader.raw
    if raw.get("model_type", "helium") != "helium":
        raise reader.fail(
            f"model_type = {shown(raw['model_type'])} is no Helium; mlx_lm runs other text models"
        )
    if unknown := sorted(key for key in set(raw) - set(KNOWN) if raw[key] is not None):
        raise reader.fail(f"unknown keys: {', '.join(suggest(key, KNOWN) for key in unknown)}")
    if missing := [key for key in REQUIRED if key not in raw]:
        raise reader.fail(f"missing keys: {', '.join(missing)}")
    for key, allowed in FIXED.items():
        if (value := raw.get(key, allowed[0])) not in allowed:
            names = " or ".join(repr(a) for a in allowed)
            raise reader.fail(f"{key} = {shown(value)} can't be built here, only {names}")


def rope_theta(reader: Reader) -> float:
    """`rope_theta`, or transformers 5's `rope_parameters: {rope_theta, rope_type}`."""
    parameters = reader.raw.get("rope_parameters") or {}
    if not isinstance(parameters, dict):
        raise reader.fail("rope_parameters must be a JSON object")
    if unknown := sorted(set(parameters) - set(ROPE_KEYS)):
        names = ", ".join(suggest(key, list(ROPE_KEYS)) for key in unknown)
        raise reader.fail(f"unknown keys in rope_parameters: {names}")
    if (kind := parameters.get("rope_type", "default")) != "default":
        raise reader.fail(f"rope_type = {kind!r} can't be built here, only 'default'")
    if (part := parameters.get("partial_rotary_factor", 1)) != 1:
        raise reader.fail(f"partial_rotary_factor = {part!r} can't be built here, only 1")
    for theta in (parameters.get("rope_theta"), reader.raw.get("rope_theta")):
        if theta is not None and not (is_number(theta) and theta > 0):
            raise reader.fail(f"rope_theta must be a number above 0, not {shown(theta)}")
    given = [t for t in (parameters.get("rope_theta"), reader.raw.get("rope_theta")) if t]
    if len({float(t) for t in given}) > 1:
        raise reader.fail(f"rope_theta is given twice, as {given[0]} and {given[1]}")
    return float(given[0]) if given else ROPE_THETA


def token_ids(reader: Reader, key: str, default: int) -> tuple[int, ...]:
    """One id or a list of them."""
    value = reader.raw.get(key)
    ids = value if isinstance(value, list) else [default if value is None else value]
    if not ids or not all(type(i) is int and 0 <= i <= MAX_SIZE for i in ids):
        raise reader.fail(f"{key} must be a token's number (or a list of them), not {shown(value)}")
    return tuple(ids)
