"""Weights in one file or in several, which transformers' index lists."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, WeightsError
from .json_file import read_json_object, shown
from .safe_names import file_inside, safe_name

SHARD_INDEX = "model.safetensors.index.json"
INDEX_ENDING = ".index.json"


def shard_names(index: Mapping[str, Any], name: str) -> list[str]:
    """The weight files that the index called `name` lists, from the same folder as `name` itself.

    Raises ConfigError.
    """
    listed = index.get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        raise ConfigError(f"{name} has no weight_map (tensor -> file); fetch it again")
    for shard in listed.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise ConfigError(f"{name} names {shown(shard)}, no safetensors file; fetch it again")
    beside = name.rpartition("/")[0]
    names = [safe_name(shard, "weight_map", name) for shard in sorted(set(listed.values()))]
    return [f"{beside}/{shard}" if beside else shard for shard in names]


def weight_files(folder: Path, name: str) -> list[Path]:
    """The one file, or all that the index called `name` lists. Raises WeightsError, ConfigError."""
    names = [name]
    if name.endswith(INDEX_ENDING):
        names = shard_names(read_json_object(file_inside(folder, name)), name)
    paths = [file_inside(folder, name) for name in names]
    for path in paths:
        if not path.is_file():
            raise WeightsError(f"no weights at {path}; check the path, or fetch the model again")
    return paths
