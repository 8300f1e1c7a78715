"""Which file of a model's folder is what: config.json's word first, else the names Kyutai uses."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .safe_names import file_inside, safe_name
from .shards import SHARD_INDEX, weight_files

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
MIMI_CONFIG_KEY = "mimi_config_name"


def file_names(
    config: Mapping[str, Any] | None,
    available: Iterable[str],
    parts: Iterable[str] = PARTS,
    source: str = "config.json",
) -> dict[str, str]:
    """part -> file name. Parts that nobody names and that are not there are left out.

    A name that config.json gives is returned even if the file is not there (the caller says that
    it is missing). Weights in several files are returned as SHARD_INDEX. With Mimi comes
    "mimi_config" where config.json names one. Raises ConfigError for names that are none.
    """
    config, available = config or {}, set(available)
    found = {}
    for part in parts:
        key, usual = NAMES[part]
        if config.get(key) not in (None, ""):
            found[part] = safe_name(config[key], key, source)
            continue
        names = [name for name in usual if name in available]
        if part == "weights" and not names and SHARD_INDEX in available:
            names = [SHARD_INDEX]
        names = names or _only_candidate(part, available)
        if names:
            found[part] = names[0]
    if "mimi" in found and config.get(MIMI_CONFIG_KEY) not in (None, ""):
        found["mimi_config"] = safe_name(config[MIMI_CONFIG_KEY], MIMI_CONFIG_KEY, source)
    return found


def part_path(folder: Path, config: Mapping[str, Any], part: str) -> Path:
    """The file of one part ("weights", "mimi", "tokenizer") of a model folder.

    Raises WeightsError when it isn't there, ConfigError for a name that leads outside.
    """
    path = part_in(folder, config, part)
    if path is None:
        raise WeightsError(f"{folder} has no {part} file; fetch the model again")
    return path


def weight_paths(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """The file with the model's weights, or all of its shards. Raises as `part_path`."""
    path = part_path(folder, config, "weights")
    return weight_files(folder, path.relative_to(folder).as_posix())


def mimi_config_path(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """The file with Mimi's sizes, where config.json names one. Raises as `part_path`."""
    return part_in(folder, config, "mimi_config")


def part_in(folder: Path, config: Mapping[str, Any], part: str) -> Path | None:
    """As `part_path`, None for a part that nobody names and that isn't there."""
    available = [path.name for path in folder.iterdir()]
    names = file_names(config, available, PARTS, str(folder / "config.json"))
    if part not in names:
        return None
    path = file_inside(folder, names[part])
    if not path.is_file():
        raise WeightsError(f"{path} is missing ({part}); fetch the model again")
    return path


def _only_candidate(part: str, available: set[str]) -> list[str]:
    """`helium-1-preview-2b-bf16.safetensors`: a name of its own, but the only one there."""
    ending = ".model" if part == "tokenizer" else ".safetensors"
    of_mimi = {n for n in available if n.startswith("tokenizer-") or "mimi" in n}
    pool = of_mimi if part == "mimi" else available - of_mimi
    names = [n for n in pool if n.endswith(ending) and "/" not in n]
    return names if len(names) == 1 else []
