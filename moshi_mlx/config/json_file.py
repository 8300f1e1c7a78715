"""JSON files that others wrote: an object or one line, however deep, long or odd they are."""

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigError

MAX_BYTES = 100_000_000  # safetensors' own limit for a header; configs and indexes are far below


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in the JSON file `path`. Raises ConfigError naming the file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} can't be a config: it has more than 100 MB; fetch it again")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}); fetch it again") from None
    return parse_json_object(data, str(path))


def parse_json_object(data: bytes, source: str) -> dict[str, Any]:
    """UTF-8, with or without a byte order mark -> the object in it. Raises ConfigError."""
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply to be read; fetch it again") from None
    except ValueError as error:
        raise ConfigError(f"{source} can't be read as JSON ({error}); fetch it again") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{source} must hold one JSON object, not a {type(found).__name__}")
    return found


def shown(value: Any) -> str:
    """A value of such a file as a message shows it: escaped, and short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
