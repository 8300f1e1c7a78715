"""The models in Hugging Face's cache: which, how large, whose; and how to remove one.

Models of other programs lie there too: they are neither listed nor removed.
"""

import fcntl
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from moshi_mlx import hub
from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.errors import MoshiError
from moshi_mlx.weights.recipes import name_of

OURS = re.compile(r"kyutai/|moshi|hibiki|helium|personaplex")
CONFIG_KEYS = {"depformer_dim", "n_q", "mimi_name", "moshi_name"}  # a model of Moshi's kind


@dataclass(frozen=True)
class CachedModel:
    """`state` is "complete" or "partial"; `licence` as the hub said it at download, else ""."""

    name: str
    state: str
    recipe: str
    num_bytes: int
    licence: str
    folder: Path  # the files under their names, or the repository's own folder if it is partial


def cached_models() -> list[CachedModel]:
    """All that this program can run, by name."""
    root = hub.repository_folder("a/b").parent
    names = [p.name for p in root.glob("models--*--*")] if root.is_dir() else []
    found = (find(name.removeprefix("models--").replace("--", "/", 1)) for name in sorted(names))
    return [model for model in found if model is not None]


def find(repository: str) -> CachedModel | None:
    """One of them; None where it isn't there, or isn't a model of this kind."""
    if not hub.REPOSITORY.fullmatch(repository):
        return None
    home = hub.repository_folder(repository)
    if not home.is_dir() or not _is_ours(repository, home):
        return None
    try:
        folder, state = hub.resolve(repository, offline=True), "complete"
    except MoshiError:
        folder, state = home, "partial"
    return CachedModel(
        repository, state, _recipe(repository, folder, state), _size(home), _licence(home), folder
    )


def remove(model: CachedModel) -> None:
    """All of its files. Raises MoshiError for one that is being downloaded, or can't be removed."""
    home = hub.repository_folder(model.name)
    if home.is_symlink():
        raise MoshiError(f"{home} is a link: remove what it leads to yourself")
    for part in (home / "blobs").glob("*.part"):
        with open(part, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise MoshiError(
                    f"{model.name} is being downloaded by another process: end that first"
                ) from None
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise MoshiError(f"{home} can't be removed ({error.strerror}): see who owns it") from None
    shutil.rmtree(home.parent / ".locks" / home.name, ignore_errors=True)


def _is_ours(repository: str, home: Path) -> bool:
    if OURS.search(repository.lower()):
        return True
    for config in filter(Path.is_file, home.glob("snapshots/*/config.json")):
        try:
            return not CONFIG_KEYS.isdisjoint(read_json_object(config))
        except MoshiError:
            return False
    return False


def _recipe(repository: str, folder: Path, state: str) -> str:
    try:
        return name_of(folder if state == "complete" else repository)
    except MoshiError:  # damaged: loading says how
        return name_of(repository)


def _size(home: Path) -> int:
    """Bytes on the disk: blobs, and files that a cache without links holds as they are."""
    paths = [Path(at) / name for at, _, names in os.walk(home) for name in names]
    return sum(path.lstat().st_size for path in paths if not path.is_symlink())


def _licence(home: Path) -> str:
    try:
        return (home / hub.LICENCE_FILE).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
