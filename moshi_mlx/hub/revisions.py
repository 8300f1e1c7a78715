"""Which commit a branch or tag was when the hub was asked: `refs` of a repository in the cache."""

import contextlib
import os
import time
from pathlib import Path

from .inside import COMMIT
from .transfer import repository_folder


def commit_at(repository: str, revision: str, cache_dir: Path | None) -> str:
    """The commit that stands there, "" for none; whatever else lies there counts as none."""
    ref = _ref(repository, revision, cache_dir)
    try:
        said = ref.read_bytes()[:100].decode("ascii").strip() if ref.is_file() else ""
    except (OSError, ValueError):
        return ""
    return said if COMMIT.fullmatch(said) else ""


def asked_s_ago(repository: str, revision: str, cache_dir: Path | None) -> float | None:
    """Seconds since the hub said so, None where it never did."""
    ref = _ref(repository, revision, cache_dir)
    return time.time() - ref.stat().st_mtime if ref.is_file() else None


def remember_revision(repository: str, revision: str, commit: str, cache_dir: Path | None) -> None:
    """So that the same name works offline. A cache that only others may write stays as it is."""
    if revision == commit:
        return
    ref = _ref(repository, revision, cache_dir)
    new = ref.with_name(f"{ref.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        ref.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(commit)
        new.replace(ref)


def _ref(repository: str, revision: str, cache_dir: Path | None) -> Path:
    return repository_folder(repository, cache_dir) / "refs" / revision
