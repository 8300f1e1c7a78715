"""From a folder's `config.json` to an LmConfig."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .lm_config import LmConfig
from .lm_keys import LmReader
from .presets import raw_preset


def load_config(folder: Path) -> LmConfig:
    """The LmConfig of a model folder; without a `config.json` it is the 7B."""
    return parse_config(read_config(folder), str(folder / "config.json"))


def read_config(folder: Path) -> dict[str, Any]:
    """The raw `config.json` of a folder, or the 7B's when there is none. Raises ConfigError."""
    path = folder / "config.json"
    if not path.exists():
        return raw_preset("moshi-7b")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read as JSON ({error}); fetch it again") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold one JSON object, not a {type(raw).__name__}")
    return raw


def parse_config(raw: Mapping[str, Any], source: str = "config.json") -> LmConfig:
    """Kyutai's keys -> LmConfig. Raises ConfigError naming the key and what was expected."""
    return LmReader(raw, source).lm_config()
