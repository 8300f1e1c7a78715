"""Where a model's files are: a folder, `nano` in the package, or a Hugging Face repository.

The only module that touches the network. `resolve` returns a folder that holds every file asked
for; of a repository only those files are fetched, into Hugging Face's own cache, and a download
that was interrupted goes on where it stopped (huggingface_hub itself starts again).
"""

import errno
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.json_file import parse_json_object, read_json_object
from ..config.model_files import ADAPTER, LONE_ADAPTER, PARTS, VOICES, file_names, part_in
from ..config.other_layouts import SPLIT_LAYOUT, is_split
from ..config.reading import read_config
from ..config.shards import SHARD_INDEX, shard_names
from ..errors import DownloadError, MoshiError, UsageError
from .failures import (
    CACHE_ADVICE,
    NOT_THE_HUB,
    NoAnswerError,
    advice_of,
    mendable,
    of_the_cache,
    reason_of,
)
from .flow import waited_for
from .inside import COMMIT, folder_inside, names_below, one_of_several
from .licences import in_words, licence_on, licensed
from .revisions import asked_s_ago, commit_at, remember_revision
from .transfer import download_file, endpoint, repository_folder

NANO = Path(__file__).parents[1] / "nano"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")  # a branch, tag or commit: no path upwards
ASKED_S = 24 * 3600.0  # for how long an answer of the hub holds
QUICK_S = 0.5  # a wait that nobody asks about
# Where the cache holds the model: for an answer, and then while a download brings nothing.
PATIENCE_S, QUIET_S = 5.0, 4.0
PATIENCE_WITHOUT_CACHE_S, QUIET_WITHOUT_CACHE_S = 30.0, 60.0
LICENCE_FILE = "moshi-licence"  # beside refs, blobs and snapshots: what the hub said at download


@dataclass(frozen=True)
class Download:
    """What fetching a repository means, known before it starts. `sizes`: file name -> bytes."""

    repository: str
    commit: str
    licence: str
    sizes: dict[str, int]
    missing_bytes: int  # not yet in the cache
    inside: str = ""  # the folder of the repository that holds the model, where it isn't the top

    def __str__(self) -> str:
        return (
            f"{self.repository}: {self.missing_bytes / 1e9:.2f} GB to download "
            f"(licence: {in_words(self.licence)})"
        )


def resolve(
    name_or_folder: str | Path,
    revision: str | None = None,
    offline: bool | None = None,
    files: Iterable[str] = PARTS,
    cache_dir: Path | None = None,
    announce: Callable[[Download], None] | None = None,
) -> Path:
    """The folder with the model's files (`files`: parts of it), fetched first where necessary.

    `offline` None means: as HF_HUB_OFFLINE says. `announce` is called with size and licence
    before a download starts (default: one line on stderr). Raises DownloadError, and UsageError for
    a revision of a folder.
    """
    folder = Path(name_or_folder).expanduser()
    if str(name_or_folder) == "nano" and not folder.is_dir():
        folder = NANO
    if folder.is_dir():
        if revision is not None:
            raise UsageError(
                f"{name_or_folder} is a folder: a revision can't be chosen; leave it out"
            )
        return folder / folder_inside(names_below(folder), str(folder), "give one of them")
    if folder.exists():
        raise DownloadError(f"{folder} is a file: give the folder it lies in, or a repository")
    repository = str(name_or_folder)
    if not REPOSITORY.fullmatch(repository):
        raise DownloadError(
            f"{repository!r} is neither a folder here nor a repository's name (owner/name), "
            "for example kyutai/moshiko-mlx-q4"
        )
    if revision is not None and not REVISION.fullmatch(revision):
        raise DownloadError(f"{revision!r} is no branch, tag or commit; check the revision")
    parts = tuple(files)
    if offline if offline is not None else offline_by_environment():
        return _cached(repository, revision, parts, cache_dir)
    here = _complete_copy(repository, revision, parts, cache_dir)
    if here is not None and _asked_lately(repository, revision, cache_dir, here, parts):
        return here
    with mendable(repository, revision):
        download = None
        patience_s, quiet_s = PATIENCE_S, QUIET_S
        if here is None:
            patience_s, quiet_s = PATIENCE_WITHOUT_CACHE_S, QUIET_WITHOUT_CACHE_S
        try:
            download = _answered(repository, revision, parts, cache_dir, patience_s)
            return _fetch(download, revision or "main", cache_dir, announce, quiet_s)
        except Exception as error:
            if here is not None:  # it starts, whatever keeps what is newer from coming
                told = isinstance(error, DownloadError)
                why = str(error) if told else f"{repository}: {reason_of(error)}"
                print(f"{why}; taking the copy on this machine", file=sys.stderr)
                return here
            if download is None and not isinstance(error, DownloadError):
                raise _without_copy(repository, revision, parts, cache_dir, error) from error
            raise


def _complete_copy(
    repository: str, revision: str | None, parts: tuple[str, ...], cache_dir: Path | None
) -> Path | None:
    """The folder in the cache, None where something is missing."""
    try:
        return _cached(repository, revision, parts, cache_dir)
    except MoshiError:
        return None


def _asked_lately(
    repository: str,
    revision: str | None,
    cache_dir: Path | None,
    here: Path,
    parts: tuple[str, ...],
) -> bool:
    """Whether the hub has said less than a day ago which commit this is.

    A commit stays itself, but a copy of it in which no file is a wanted part may be half of it.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        raw = read_config(here)
        return all(part_in(here, raw, part) is not None for part in parts)
    seconds = asked_s_ago(repository, revision or "main", cache_dir)
    return seconds is not None and 0 <= seconds < ASKED_S


def _answered(
    repository: str,
    revision: str | None,
    parts: tuple[str, ...],
    cache_dir: Path | None,
    patience_s: float,
) -> Download:
    """`_plan`, or NoAnswerError after `patience_s`, whatever the server does meanwhile."""
    found: list[Download | Exception] = []

    def ask() -> None:
        try:
            found.append(_plan(repository, revision, parts, cache_dir))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=ask, name="moshi-hub", daemon=True)
    thread.start()
    thread.join(min(QUICK_S, patience_s))
    if thread.is_alive():
        print(f"asking the hub for {repository} ...", file=sys.stderr)
        thread.join(patience_s - QUICK_S)
    if not found:
        raise NoAnswerError(f"the hub doesn't answer within {patience_s:g} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _without_copy(
    repository: str,
    revision: str | None,
    parts: tuple[str, ...],
    cache_dir: Path | None,
    error: Exception,
) -> Exception:
    """What to say when there is neither an answer nor a copy; a clear answer is said as it is."""
    from huggingface_hub import errors

    clear = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.RemoteEntryNotFoundError,
    )
    if isinstance(error, clear) or getattr(error, "errno", None) == errno.ENOSPC:
        return error
    try:
        reason = f"{reason_of(error)}, and"
        _cached(repository, revision, parts, cache_dir, reason, advice_of(error))
    except MoshiError as missing:
        return DownloadError(str(missing))
    return error


def plan(
    repository: str,
    revision: str | None = None,
    files: Iterable[str] = PARTS,
    cache_dir: Path | None = None,
) -> Download:
    """Size and licence of what `resolve` would fetch. Raises DownloadError."""
    with mendable(repository, revision):
        return _plan(repository, revision, tuple(files), cache_dir)


def _plan(repository: str, revision: str | None, parts: tuple[str, ...], cache_dir: Path | None):
    from huggingface_hub import HfApi, try_to_load_from_cache

    info = HfApi(endpoint=endpoint()).model_info(
        repository, revision=revision, files_metadata=True, timeout=PATIENCE_WITHOUT_CACHE_S
    )
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit):
        raise NoAnswerError(NOT_THE_HUB)
    listed = {s.rfilename: s.size or 0 for s in info.siblings or []}
    inside = folder_inside(listed, repository, one_of_several(repository))
    at = f"{inside}/" if inside else ""
    all_sizes = {n.removeprefix(at): size for n, size in listed.items() if n.startswith(at)}
    config, licence = None, licence_on(info.card_data)
    if "config.json" in all_sizes:
        with licensed(repository, licence):
            path = download_file(repository, at + "config.json", commit, cache_dir)
        config = _read_config(path, repository)
    if is_split(config, all_sizes):
        raise DownloadError(f"{repository} {SPLIT_LAYOUT}")
    found = file_names(config, all_sizes, parts)
    names = list(found.values())
    if "lora" in parts and "lora" not in found:
        raise DownloadError(f"{repository} holds no adapter ({ADAPTER}): is it a model?")
    if "voices" in parts and "voices" not in found:
        raise DownloadError(f"{repository} has no voices of its own ({VOICES})")
    if SHARD_INDEX in names:
        path = download_file(repository, at + SHARD_INDEX, commit, cache_dir)
        names += shard_names(_read_config(path, repository), SHARD_INDEX)
    for name in names:
        if name not in all_sizes:
            raise DownloadError(
                f"{repository} has no file {name}: its config.json names one that is missing; "
                "try another revision"
            )
    if "weights" in parts and not any(name.endswith(".safetensors") for name in names):
        if ADAPTER in all_sizes:
            raise DownloadError(f"{repository} {LONE_ADAPTER}")
        raise DownloadError(f"{repository} holds no safetensors weights: is it a Moshi model?")
    if not names:
        raise DownloadError(f"{repository} holds no {' and no '.join(parts)}: is it a Moshi model?")
    sizes = {at + name: all_sizes[name] for name in names}
    missing = sum(
        size
        for name, size in sizes.items()
        if not isinstance(try_to_load_from_cache(repository, name, cache_dir, commit), str)
    )
    return Download(repository, commit, licence, sizes, missing, inside)


def _fetch(
    download: Download,
    revision: str,
    cache_dir: Path | None,
    announce: Callable[[Download], None] | None,
    quiet_s: float,
) -> Path:
    """`quiet_s`: for how long it may bring next to nothing."""
    repository, commit = download.repository, download.commit
    if download.missing_bytes:
        (announce or _announce_on_stderr)(download)
        _check_disk(download, cache_dir)
    with licensed(repository, download.licence):
        paths = waited_for(
            lambda flow: [
                download_file(repository, name, commit, cache_dir, flow) for name in download.sizes
            ],
            quiet_s,
        )
    remember_revision(repository, revision, commit, cache_dir)
    with suppress(OSError):  # in a cache that only others may write
        (repository_folder(repository, cache_dir) / LICENCE_FILE).write_text(download.licence)
    first, name = paths[0], next(iter(download.sizes))
    return first.parents[name.count("/")] / download.inside


def _announce_on_stderr(download: Download) -> None:
    print(download, file=sys.stderr)


def _cached(
    repository: str,
    revision: str | None,
    parts: tuple[str, ...],
    cache_dir: Path | None,
    reason: str = "offline, but",
    advice: str = "go online once, so that it is fetched",
) -> Path:
    """The folder in the cache if it is complete; never asks the network."""
    try:
        return _in_cache(repository, revision, parts, cache_dir, reason, advice)
    except OSError as error:
        raise DownloadError(f"{reason} {of_the_cache(error)}: {CACHE_ADVICE}") from None


def _in_cache(
    repository: str,
    revision: str | None,
    parts: tuple[str, ...],
    cache_dir: Path | None,
    reason: str,
    advice: str,
) -> Path:
    folder = repository_folder(repository, cache_dir)
    commit = commit_at(repository, revision or "main", cache_dir) or revision or ""
    snapshot = folder / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        raise DownloadError(f"{reason} {repository} isn't on this machine: {advice}")
    listed = {p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()}
    inside = folder_inside(listed, repository, one_of_several(repository))
    at = f"{inside}/" if inside else ""
    available = {name.removeprefix(at) for name in listed if name.startswith(at)}
    snapshot = snapshot / inside
    config_file = snapshot / "config.json"
    config = read_json_object(config_file) if config_file.is_file() else None
    names = list(file_names(config, available, parts).values())
    if SHARD_INDEX in names:
        names += shard_names(read_json_object(snapshot / SHARD_INDEX), SHARD_INDEX)
    absent = sorted(set(names) - available)
    if "weights" in parts and not any(name.endswith(".safetensors") for name in names):
        absent.append("its weights")
    if "lora" in parts and not names:
        absent.append(f"an adapter ({ADAPTER})")
    if "voices" in parts and not names:
        absent.append(f"voices ({VOICES})")
    if absent:
        raise DownloadError(f"{reason} {repository} lacks {', '.join(absent)}: {advice}")
    return snapshot


def _read_config(path: Path, repository: str) -> dict[str, Any]:
    return parse_json_object(path.read_bytes(), f"{path.name} of {repository}")


def _check_disk(download: Download, cache_dir: Path | None) -> None:
    folder = repository_folder(download.repository, cache_dir)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < download.missing_bytes:
        raise DownloadError(
            f"{download.repository} needs {download.missing_bytes / 1e9:.2f} GB and {folder} has "
            f"{free / 1e9:.2f} GB free: make room, or set HF_HOME to another disk"
        )


def offline_by_environment() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
