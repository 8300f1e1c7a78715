"""JSON files that others wrote: an object or one line, however deep, long or odd they are."""

import json
import stat
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MoshiError
from .file_kinds import HEAD_BYTES, mistaken_for

ADVICE = "fetch it again"  # of files that come from a repository
MAX_BYTES = 100_000_000  # safetensors' own limit for a header; configs and indexes are far below


def read_json_object(
    path: Path, error: type[MoshiError] = ConfigError, advice: str = ADVICE
) -> dict[str, Any]:
    """The object in the JSON file `path`. Raises `error`, naming the file, ending with `advice`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise error(f"{path} is a pipe or a device, no file; {advice}")
        if status.st_size > MAX_BYTES:
            raise error(f"{path} has more than 100 MB, too much for a JSON file; {advice}")
        data = path.read_bytes()
    except OSError as failure:
        raise error(f"{path} can't be read ({failure.strerror}); {advice}") from None
    return parse_json_object(data, str(path), error, advice)


def parse_json_object(
    data: bytes, source: str, error: type[MoshiError] = ConfigError, advice: str = ADVICE
) -> dict[str, Any]:
    """UTF-8, with or without a byte order mark -> the object in it. Raises as the above."""
    if (other := mistaken_for(data[:HEAD_BYTES])) is not None:
        raise error(f"{source} is {other}")
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise error(f"{source} is nested too deeply to be read; {advice}") from None
    except ValueError as failure:
        raise error(f"{source} can't be read as JSON ({failure}); {advice}") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise error(f"{source} must hold one JSON object, not a {kind}; {advice}")
    return found


def shown(value: Any) -> str:
    """A value of such a file as a message shows it: escaped, and short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
