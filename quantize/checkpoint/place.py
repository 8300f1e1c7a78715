"""The place of a target: what may be replaced, and the partial folder with its lock beside it.

Everything is made in `.TARGET.partial`, which one run holds at a time, and takes its name in one
rename. Only what a run of this tool has made is ever removed.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.errors import ConfigError

from ..errors import QuantizeError

LOCK = ".moshi-quantize.lock"
SYSTEM_FILES = (".DS_Store",)  # what macOS' Finder leaves in every folder it has shown


def real_target(target: Path) -> Path:
    """The folder meant, symbolic links followed. Raises QuantizeError for a name that is none."""
    try:
        real = target.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise QuantizeError(f"{target} can't be followed ({error}): choose another name") from None
    if not real.name:
        raise QuantizeError(f"{target} can't be a target: choose the name of a folder to make")
    try:
        partial_of(real).lstat()  # the longest name of all
    except FileNotFoundError:
        pass
    except OSError as error:
        raise QuantizeError(
            f"{target} can't be a target ({error.strerror}): choose another name"
        ) from None
    return real


def check_target(target: Path, source: Path, force: bool) -> None:
    """Whether a run may make `target`, before it does anything. Raises QuantizeError."""
    real, origin = real_target(target), source.resolve()
    if _is_same(real, origin):
        raise QuantizeError("the target is the source's own folder: choose another name")
    if _holds(real, origin):
        raise QuantizeError(f"the source lies inside {target}: choose another name")
    if os.path.lexists(real):
        if not force:
            raise QuantizeError(f"{target} exists: choose another name, or replace it with --force")
        check_replaceable(real, target)
    check_free(partial_of(real), target)


def check_replaceable(real: Path, target: Path) -> None:
    """Raises QuantizeError for anything but a folder that this tool made and nobody added to."""
    if not real.is_dir():
        raise QuantizeError(f"{target} is a file: choose another name for the target folder")
    for place, what in ((_home(), "home folder"), (Path.cwd(), "working folder")):
        if place is not None and _holds(real, place.resolve()):
            raise QuantizeError(f"{target} holds your {what}: choose another name")
    made = made_files(real)
    if made is None:
        raise QuantizeError(
            f"{target} was not made by `moshi quantize`, so --force leaves it alone: "
            "choose another name"
        )
    for path in sorted(real.iterdir()):
        plain = path.is_file() and not path.is_symlink()
        if path.name not in (*made, *SYSTEM_FILES) or not plain:
            raise QuantizeError(
                f"{target} holds {path.name!r}, which `moshi quantize` did not make: move it away, "
                "or choose another name"
            )


def _is_same(folder: Path, other: Path) -> bool:
    """Also under two names: capitals on a Mac's disk, a folder mounted twice."""
    try:
        return folder == other or folder.samefile(other)
    except OSError:  # one that isn't there
        return False


def _holds(folder: Path, inner: Path) -> bool:
    return any(_is_same(folder, each) for each in (inner, *inner.parents))


def made_files(folder: Path) -> list[str] | None:
    """What this tool put into `folder` (its mark in config.json); None for any other folder."""
    config = folder / "config.json"
    if config.is_symlink() or not config.is_file():
        return None
    try:
        mark: Any = read_json_object(config).get("quantization")
    except ConfigError:
        return None
    files = mark.get("files") if isinstance(mark, dict) else None
    good = isinstance(files, list) and all(isinstance(name, str) for name in files)
    return files if good and "recipe" in mark else None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no entry of this user
        return None


def partial_of(real: Path) -> Path:
    return real.with_name(f".{real.name}.partial")


def check_free(partial: Path, target: Path) -> None:
    """Raises QuantizeError while another run makes the same target."""
    with contextlib.suppress(OSError):
        number = os.open(partial / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(number, encoding="utf-8", errors="replace") as file:
            if stat.S_ISREG(os.fstat(number).st_mode):
                _lock(file, target)


@contextmanager
def partial_folder(real: Path, target: Path) -> Iterator[Path]:
    """`.TARGET.partial`, held by this run alone until the block ends; what is there is kept.

    Links in it are removed: an interrupted run leaves none. Raises QuantizeError.
    """
    partial = partial_of(real)
    try:
        with _held(partial, target) as lock:
            lock.truncate(0)
            lock.write(
                f"process {os.getpid()} on {socket.gethostname()}, "
                f"since {time.strftime('%Y-%m-%d %H:%M')}"
            )
            lock.flush()
            _remove_links(partial)
            yield partial
    except OSError as error:
        raise QuantizeError(f"{target} can't be written: {error.strerror or error}") from error


@contextmanager
def _held(partial: Path, target: Path) -> Iterator[IO[str]]:
    """The lock's file, locked. Raises QuantizeError for another's lock, or another's folder."""
    path = partial / LOCK
    while True:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            partial.mkdir()
        if partial.is_symlink() or not partial.is_dir():
            raise QuantizeError(f"{partial} is in the way: move it, or choose another target")
        if any(partial.iterdir()) and not _is_plain(path):
            raise QuantizeError(
                f"{partial} was not left by an interrupted `moshi quantize`: move it, or choose "
                "another target"
            )
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # the other run has just finished
            continue
        with open(number, "r+", encoding="utf-8", errors="replace") as file:
            _lock(file, target)
            if path.exists() and os.path.samestat(os.fstat(number), path.stat()):
                yield file
                return


def _is_plain(path: Path) -> bool:
    """Whether it is a file under no other name: what is written to it is written nowhere else."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _lock(file: IO[str], target: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read(200) or "another process"
        raise QuantizeError(
            f"{target} is being made by another `moshi quantize` ({holder}): wait for it, or "
            "choose another target"
        ) from None


def _remove_links(partial: Path) -> None:
    """Whatever would lead a writer out of the folder: symbolic and hard links, pipes."""
    for root, folders, names in os.walk(partial):
        for path in (Path(root, name) for name in (*folders, *names)):
            if path.is_symlink() or not (path.is_dir() or _is_plain(path)):
                path.unlink()


def write_new(path: Path, text: str) -> None:
    """A file of its own, also where one of this name is there already."""
    path.unlink(missing_ok=True)
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)


def put_in_place(partial: Path, real: Path, force: bool) -> None:
    """One rename; what was there (`force`) is removed after the new folder is whole.

    Raises QuantizeError for what came there meanwhile, and keeps it.
    """
    if not os.path.lexists(real):
        partial.rename(real)
        (real / LOCK).unlink()
        return
    if not force:
        raise QuantizeError(f"{real} came to be meanwhile: choose another name, or use --force")
    check_replaceable(real, real)
    old = Path(tempfile.mkdtemp(prefix=f".{real.name[:100]}.old.", dir=real.parent))
    try:
        real.rename(old / real.name)
        partial.rename(real)
    except BaseException:
        if not os.path.lexists(real):
            (old / real.name).rename(real)
        old.rmdir()
        raise
    (real / LOCK).unlink()
    shutil.rmtree(old, ignore_errors=True)
