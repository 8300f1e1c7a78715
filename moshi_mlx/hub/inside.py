"""Models in a folder of a repository or of a folder: found where there is one, named else."""

import re
from collections.abc import Iterable
from pathlib import Path

from ..config.model_files import folders_within
from ..config.safe_names import safe_name
from ..errors import DownloadError

COMMIT = re.compile(r"[0-9a-f]{40}")


def folder_inside(available: Iterable[str], source: str, advice: str) -> str:
    """The folder that holds the model: "" for the top, else the only one below it that does.

    Raises DownloadError where there are several, ending with `advice`, and ConfigError for a name
    that leads elsewhere.
    """
    folders = folders_within(available)
    if len(folders) > 1:
        more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        raise DownloadError(
            f"{source} holds several models, in {', '.join(folders[:3])}{more}: {advice}"
        )
    return safe_name(folders[0], "its folder", source) if folders else ""


def one_of_several(repository: str) -> str:
    return (
        f'fetch one of them, `hf download {repository} --include "FOLDER/*" --local-dir DIR`, '
        "and give DIR/FOLDER"
    )


def names_below(folder: Path) -> list[str]:
    """Names in a folder of this machine; where no config.json lies in it, of its folders too."""
    names = [path.name for path in folder.iterdir()]
    if "config.json" in names:
        return names
    below = [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]
    return names + [name for name in below if name.endswith((".json", ".safetensors"))]


def commit_of(folder: Path) -> str | None:
    """The commit that a folder in Hugging Face's cache is of, None for any other folder."""
    return next((part for part in reversed(folder.parts) if COMMIT.fullmatch(part)), None)
