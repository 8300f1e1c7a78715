"""Single files of a repository that is no model: listed, and fetched one by one."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError
from .failures import mendable
from .inside import COMMIT
from .repository import PATIENCE_S, offline_by_environment
from .revisions import commit_at, remember_revision
from .transfer import download_file, endpoint, repository_folder

WITHIN = re.compile(r"(?!.*\.\.)[^/\\\0][^\\\0]*")  # a name that leads nowhere else


@dataclass(frozen=True)
class Listing:
    """What a repository holds: names of files, at a commit; local: only those that are here."""

    repository: str
    commit: str
    names: tuple[str, ...]
    local: bool
    cache_dir: Path | None = None

    def fetched(self, name: str) -> Path:
        """One of `names` on this machine, downloaded if need be. Raises DownloadError."""
        if self.local:
            return _snapshot(self.repository, self.commit, self.cache_dir) / name
        with mendable(self.repository, None):
            path = download_file(self.repository, name, self.commit, self.cache_dir)
            remember_revision(self.repository, "main", self.commit, self.cache_dir)
        return path


def list_files(
    repository: str, offline: bool | None = None, cache_dir: Path | None = None
) -> Listing:
    """The names of a repository's files; of those in the cache, offline or where the hub doesn't
    answer. Raises DownloadError where there is neither."""
    here = _cached(repository, cache_dir)
    if offline_by_environment() if offline is None else offline:
        if here is None:
            raise DownloadError(f"offline, and nothing of {repository} is on this machine")
        return here
    from huggingface_hub import HfApi

    try:
        with mendable(repository, None):
            info = HfApi(endpoint=endpoint()).model_info(repository, timeout=PATIENCE_S)
            commit = str(info.sha)
            if not COMMIT.fullmatch(commit):
                raise DownloadError("what answers is not the hub (a login page of this network?)")
    except DownloadError:
        if here is None:
            raise
        return here
    names = [s.rfilename for s in info.siblings or [] if WITHIN.fullmatch(s.rfilename)]
    return Listing(repository, commit, tuple(names), False, cache_dir)


def _cached(repository: str, cache_dir: Path | None) -> Listing | None:
    commit = commit_at(repository, "main", cache_dir)
    folder = _snapshot(repository, commit, cache_dir)
    if not commit or not folder.is_dir():
        return None
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return Listing(repository, commit, tuple(names), True, cache_dir)


def _snapshot(repository: str, commit: str, cache_dir: Path | None) -> Path:
    return repository_folder(repository, cache_dir) / "snapshots" / commit
