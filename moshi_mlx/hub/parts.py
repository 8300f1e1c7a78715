"""Mimi and tokenizer of a model: those that were asked for, its own, or Kyutai's in the cache.

Fine-tunes are published without them: they have those of the model that was trained.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.model_files import KYUTAIS, NAMES, PARTS, kyutais_name, mimi_config_path, part_in
from ..config.reading import read_config
from ..errors import WeightsError
from .repository import resolve
from .transfer import cached_file

MIMI_CONFIG = "mimi_config.json"  # a codec's sizes, beside its weights
ENDINGS = (".safetensors", ".model", ".json")


def own_parts(mimi: object = None, tokenizer: object = None) -> tuple[str, ...]:
    """The parts of a model that must be its own: without those that are given."""
    given = {"mimi": mimi, "tokenizer": tokenizer}
    return tuple(part for part in PARTS if given.get(part) is None)


def mimi_file(
    folder: Path,
    raw: Mapping[str, Any],
    given: str | Path | None = None,
    offline: bool | None = None,
) -> tuple[Path, Path | None]:
    """(Mimi's weights, the file with its sizes if config.json names one) of a model's `folder`.

    `raw`: the model's config.json. `given` instead of its own: a file (its sizes lie beside it as
    MIMI_CONFIG, or are Kyutai's), or a model whose Mimi it is. Raises WeightsError,
    ConfigError, DownloadError.
    """
    if given is not None:
        return _asked_for("mimi", given, offline)
    own = part_in(folder, raw, "mimi")
    if own is not None:
        return own, mimi_config_path(folder, raw)
    return _kyutais("mimi", folder, raw), None


def tokenizer_file(
    folder: Path,
    raw: Mapping[str, Any],
    given: str | Path | None = None,
    offline: bool | None = None,
) -> Path:
    """The text tokenizer of a model's `folder`; all as in `mimi_file`."""
    if given is not None:
        return _asked_for("tokenizer", given, offline)[0]
    return part_in(folder, raw, "tokenizer") or _kyutais("tokenizer", folder, raw)


def _asked_for(part: str, given: str | Path, offline: bool | None) -> tuple[Path, Path | None]:
    path = Path(given).expanduser()
    if path.is_file():
        sizes = path.with_name(MIMI_CONFIG)
        return path, sizes if sizes.is_file() else None
    if path.suffix in ENDINGS:
        raise WeightsError(f"there is no {path}: give {part} as a file, or the model that has it")
    folder = resolve(given, None, offline, files=(part,))
    raw = read_config(folder)
    found = part_in(folder, raw, part)
    if found is None:
        raise WeightsError(f"{given} has no {part} of its own: give another")
    return found, mimi_config_path(folder, raw) if part == "mimi" else None


def _kyutais(part: str, folder: Path, raw: Mapping[str, Any]) -> Path:
    """The file in the cache; told on stderr. Raises WeightsError for a model that has no such."""
    size = raw.get("card" if part == "mimi" else "text_card")
    named = kyutais_name(raw.get(NAMES[part][0]), part)
    names = [name for name, file in KYUTAIS[part].items() if file.size == size]
    if named and named not in names:
        names = [named]  # and its size is checked against the model's
    for name in names:
        if (path := cached_file(name)) is not None:
            print(f"{folder} has no {part} of its own: taking Kyutai's, {path}", file=sys.stderr)
            return path
    if not names:
        raise WeightsError(f"{folder} has no {part} file; fetch the model again, or give one")
    raise WeightsError(
        f"{folder} has no {part}, and Kyutai's {names[0]} is not on this machine: give one "
        f"(--{part} {KYUTAIS[part][names[0]].repository} fetches that)"
    )
