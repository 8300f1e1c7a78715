"""From a folder's `config.json` to an LmConfig."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .json_file import read_json_object
from .lm_config import LmConfig
from .lm_keys import LmReader
from .other_layouts import SPLIT_LAYOUT, is_split
from .presets import raw_preset
from .safe_names import file_inside


def load_config(folder: Path) -> LmConfig:
    """The LmConfig of a model folder; without a `config.json` it is the 7B."""
    return parse_config(read_config(folder), str(folder / "config.json"))


def read_config(folder: Path) -> dict[str, Any]:
    """The raw `config.json` of a folder, or the 7B's when there is none. Raises ConfigError."""
    path = folder / "config.json"
    raw = read_json_object(file_inside(folder, path.name)) if path.exists() else None
    if is_split(raw, (file.name for file in folder.glob("*.safetensors"))):
        raise ConfigError(f"{folder} {SPLIT_LAYOUT}")
    if raw is None:
        return raw_preset("moshi-7b")
    if raw.get("model_type") == "personaplex" and "dim" not in raw:  # published without sizes
        return raw_preset("personaplex-7b") | raw
    return raw


def parse_config(raw: Mapping[str, Any], source: str = "config.json") -> LmConfig:
    """Kyutai's keys -> LmConfig. Raises ConfigError naming the key and what was expected.

    Depth slices that predict the user are left out: in a conversation the user's codes are given.
    """
    config = LmReader(raw, source).lm_config()
    return config.with_slices(config.n_q // 2) if config.predicts_user else config
