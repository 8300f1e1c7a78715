"""Names of files in configs and indexes: checked once, here, and never trusted as paths.

A name is a plain one or a relative path that stays in the model's folder, symbolic links
followed. Hugging Face's cache is the one exception: its files are links into `blobs` beside it.
"""

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .json_file import shown

MAX_NAME_BYTES, MAX_PART_BYTES = 1024, 255  # what file systems take
ELSEWHERE = ("hf://", "file://")  # Kyutai's spellings for files of other repositories and folders


def safe_name(value: Any, key: str, source: str) -> str:
    """The file name under `key` of `source`. Raises ConfigError for whatever could lead outside."""
    at = f"{source}: {key}"
    if not isinstance(value, str):
        raise ConfigError(f"{at} must be a file's name, not {shown(value)}")
    if value.startswith(ELSEWHERE):
        raise ConfigError(
            f"{at} names a file elsewhere, {shown(value)}: put that file into the model's folder "
            f"and write its plain name as {key}"
        )
    parts = value.split("/")
    try:
        length = max(len(part.encode()) for part in parts)
        good = len(value.encode()) <= MAX_NAME_BYTES and 0 < length <= MAX_PART_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        good = False
    odd = any(ord(c) < 32 or ord(c) == 127 for c in value) or "\\" in value
    if not good or odd or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(
            f"{at} is {shown(value)}: it must be the name of a file inside the model's folder"
        )
    return value


def file_inside(folder: Path, name: str) -> Path:
    """`folder/name`, after a check that no link leads outside. Raises ConfigError.

    The file need not be there.
    """
    path = folder / name
    try:
        real, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise ConfigError(f"{path} can't be followed ({error}); fetch it again") from None
    allowed = [home]
    for commit in (home, *home.parents):  # models--owner--name/{blobs,snapshots/COMMIT}
        if commit.parent.name == "snapshots":
            allowed.append(commit.parents[1] / "blobs")
    if not any(real.is_relative_to(root) for root in allowed):
        raise ConfigError(
            f"{path} is a link that leads outside of the model's folder: put the file itself there"
        )
    return path
