"""Keys of `config.json` that describe conditions: `conditioners` and `fuser`, strictly.

Source: PyTorch `moshi/conditioners/base.py` and `text.py`, `moshi/models/loaders.py`.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import suggest
from .json_file import shown
from .json_reader import MAX_SIZE, Reader, is_number
from .lm_config import ConditionerConfig, FuserConfig

KINDS: dict[str, tuple[str, ...]] = {
    "lut": ("dim", "n_bins", "tokenizer", "possible_values"),
    "tensor": ("dim",),
}
# key -> the values that can be built; the last two only matter in training
FIXED: dict[str, tuple[Any, ...]] = {
    "force_linear": (True,),
    "output_bias": (False,),
    "learn_padding": (True,),
    "tokenizer": ("noop",),
}
BESIDE = ("init_scale", "pad_empty")
FUSER_KEYS = ("sum", "cross", "cross_attention_pos_emb", "cross_attention_pos_emb_scale", "prepend")


def conditioners(reader: Reader) -> dict[str, ConditionerConfig]:
    """name -> conditioner. Raises ConfigError naming the conditioner and the key."""
    entries = reader.mapping("conditioners")
    return {name: _conditioner(reader, name, entry) for name, entry in entries.items()}


def _conditioner(reader: Reader, name: str, entry: Any) -> ConditionerConfig:
    at = f"conditioner {name!r}"
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise reader.fail(f"{at} has type {shown(kind)}; known: {', '.join(KINDS)}")
    inner = entry.get(kind)
    if not isinstance(inner, Mapping):
        raise reader.fail(f"{at} needs an object {kind!r} with its sizes, not {shown(inner)}")
    known = [*KINDS[kind], *FIXED, *BESIDE]
    if unknown := sorted(set(inner) - set(known)):
        raise reader.fail(f"{at}: unknown keys: {', '.join(suggest(k, known) for k in unknown)}")
    if missing := [k for k in KINDS[kind] if k not in inner and k != "possible_values"]:
        raise reader.fail(f"{at}: missing keys: {', '.join(missing)}")
    for key, allowed in FIXED.items():
        if inner.get(key, allowed[0]) not in allowed:
            raise reader.fail(f"{at}: {key} must be {allowed[0]!r}")
    for key in ("dim", "n_bins"):
        value = inner.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIZE:
            raise reader.fail(
                f"{at}: {key} must be a whole number from 1 to {MAX_SIZE}, not {shown(value)}"
            )
    values = inner.get("possible_values")
    if values is not None and not _words(values):
        raise reader.fail(f"{at}: possible_values must be a list of words, not {shown(values)}")
    if values is not None and len(values) > inner.get("n_bins", len(values)):
        raise reader.fail(f"{at}: {len(values)} possible_values do not fit into n_bins")
    return ConditionerConfig(
        kind=kind,
        dim=inner["dim"],
        num_bins=inner.get("n_bins", 0),
        possible_values=tuple(values) if values is not None else None,
    )


def fuser(reader: Reader, known: Mapping[str, ConditionerConfig]) -> FuserConfig:
    """How the conditions enter. Raises ConfigError for methods and names that don't exist."""
    raw = reader.mapping("fuser")
    if unknown := sorted(set(raw) - set(FUSER_KEYS)):
        names = ", ".join(suggest(key, list(FUSER_KEYS)) for key in unknown)
        raise reader.fail(f"unknown keys in fuser: {names}")
    if raw.get("prepend"):
        raise reader.fail("fuser method 'prepend' can't be built here, only sum and cross")
    for method in ("sum", "cross"):
        if not _words(raw.get(method, [])):
            raise reader.fail(f"fuser: {method} must be a list of conditioners' names")
        for name in raw.get(method, []):
            if name not in known:
                raise reader.fail(f"fuser names {name!r}, which is not among the conditioners")
    if raw.get("cross") and not reader.get("cross_attention"):
        raise reader.fail("fuser has cross conditions, but cross_attention is false")
    scale = raw.get("cross_attention_pos_emb_scale", 1.0)
    if not is_number(scale):
        raise reader.fail(
            f"fuser: cross_attention_pos_emb_scale must be a number, not {shown(scale)}"
        )
    return FuserConfig(
        sum=tuple(raw.get("sum", ())),
        cross=tuple(raw.get("cross", ())),
        cross_pos_emb=bool(raw.get("cross_attention_pos_emb", False)),
        cross_pos_emb_scale=float(scale),
    )


def _words(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
