"""Which file of a model's folder is what: config.json's word first, else the names Kyutai uses."""

from collections.abc import Iterable, Mapping
from typing import Any

PARTS = ("weights", "mimi", "tokenizer")
# part -> (key of config.json, the usual names, best first)
NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "weights": (
        "moshi_name",
        ("model.safetensors", "model.q8.safetensors", "model.q4.safetensors"),
    ),
    "mimi": ("mimi_name", ("tokenizer-e351c8d8-checkpoint125.safetensors",)),
    "tokenizer": (
        "tokenizer_name",
        (
            "tokenizer_spm_32k_3.model",
            "tokenizer_spm_48k_multi6_2.model",
            "tokenizer.model",
            "tokenizer.json",
        ),
    ),
}
SHARD_INDEX = "model.safetensors.index.json"  # transformers' list of a model in several files


def file_names(
    config: Mapping[str, Any] | None, available: Iterable[str], parts: Iterable[str] = PARTS
) -> dict[str, str]:
    """part -> file name. Parts that nobody names and that are not there are left out.

    A name that config.json gives is returned even if the file is not there (the caller says that
    it is missing). Weights in several files are returned as SHARD_INDEX. With Mimi comes
    "mimi_config" where config.json names one.
    """
    config, available = config or {}, set(available)
    found = {}
    for part in parts:
        key, usual = NAMES[part]
        if config.get(key):
            found[part] = config[key]
            continue
        names = [name for name in usual if name in available]
        if part == "weights" and not names and SHARD_INDEX in available:
            names = [SHARD_INDEX]
        names = names or _only_candidate(part, available)
        if names:
            found[part] = names[0]
    if "mimi" in found and config.get("mimi_config_name"):
        found["mimi_config"] = config["mimi_config_name"]
    return found


def shard_names(index: Mapping[str, Any]) -> list[str]:
    """The weight files that transformers' index lists."""
    return sorted(set(index.get("weight_map", {}).values()))


def _only_candidate(part: str, available: set[str]) -> list[str]:
    """`helium-1-preview-2b-bf16.safetensors`: a name of its own, but the only one there."""
    ending = ".model" if part == "tokenizer" else ".safetensors"
    of_mimi = {n for n in available if n.startswith("tokenizer-") or "mimi" in n}
    pool = of_mimi if part == "mimi" else available - of_mimi
    names = [n for n in pool if n.endswith(ending) and "/" not in n]
    return names if len(names) == 1 else []
