"""Output files: checked before the work, written whole or not at all, nothing lost on the way.

A regular file is made under another name beside it and renamed at the end: its rights are those
that it had, or what the umask leaves. A symbolic link stays one and its file is written; pipes,
devices and whatever lies in /dev are written into, as a shell does.
"""

import errno
import os
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import MoshiError

_unfinished: set[Path] = set()  # temporary files of this process, for an end that unwinds nothing
STREAMS = ("/dev/", "/proc/")  # /dev/stdout looks like a file where the shell has made it one

MEMORY = "/dev/shm/"  # a folder as others are


class OutputError(MoshiError):
    """A file can't be written as asked."""


class ExistsError(OutputError):
    """It is there already, and nobody has said that it may be replaced."""


def check_outputs(
    outputs: Iterable[Path], inputs: Iterable[Path] = (), force: bool = False
) -> None:
    """Asked before the work starts: can each output be made, and is nothing lost by it?

    An output is never an input or another output, and what is there already needs `force`.
    Raises OutputError.
    """
    given = {_identity(path): f"the input {path} itself" for path in inputs}
    taken = dict(given)
    for path in outputs:
        _check_place(path)
        if _is_stream(path):  # an open file, by its number, may be the input
            if path.is_file() and (other := given.get(_identity(path))) is not None:
                raise OutputError(f"{path} is {other}; choose another name")
            continue
        if (other := taken.get(_identity(path))) is not None:
            raise OutputError(f"{path} is {other}; choose another name")
        taken[_identity(path)] = "named for two outputs"
        if path.exists() and not force:
            raise ExistsError(f"{path} exists: choose another name, or replace it")


def beside(path: Path, suffix: str) -> Path:
    """A second output of the same name; among devices nothing is made, and it goes nowhere."""
    if _place(path).startswith(STREAMS) and not _place(path).startswith(MEMORY):
        return Path(os.devnull)
    return path.with_suffix(suffix) if path.name else path


def disk_name(name: str) -> str:
    """The same for names that a Mac's disk takes for one: capitals, accents spelt in two ways."""
    return unicodedata.normalize("NFC", name).casefold()


def write_text(path: Path, text: str) -> None:
    """A whole file (UTF-8) or none. Raises OutputError."""
    with whole_files(path) as (temporary,):
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_files(*paths: Path, private: bool = False) -> Iterator[list[Path]]:
    """Temporary files, which become `paths` together when the block ends well, else vanish.

    private: for their owner's eyes alone (0600), whatever rights a file had that was there. Raises
    OutputError for an OSError, in the block too.
    """
    made: list[_Output] = []
    try:
        try:
            for path in paths:
                made.append(_begin(path, private))
            yield [output.temporary for output in made]
            _commit(made)
        finally:
            for output in made:
                output.temporary.unlink(missing_ok=True)
                _unfinished.discard(output.temporary)
    except OSError as error:
        names = " and ".join(str(path) for path in paths if str(path) != os.devnull)
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise OutputError(
            f"{names} can't be written ({reason}); is the disk full? Free some space, or choose "
            "another place"
        ) from None


def remove_unfinished() -> None:
    """Before a process ends at once, whatever it is in: what is half written goes. Any thread."""
    for path in list(_unfinished):
        with suppress(OSError):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Output:
    """`final`: where the temporary file goes by a rename; None: it is copied into `path`."""

    path: Path
    temporary: Path
    final: Path | None


def _begin(path: Path, private: bool = False) -> _Output:
    if _is_stream(path):
        number, name = tempfile.mkstemp(suffix=path.suffix)
        _unfinished.add(Path(name))
        os.close(number)
        return _Output(path, Path(name), None)
    final = _resolved(path)
    if final.is_symlink():
        raise OSError(errno.ELOOP, "it is a link that leads to itself")
    temporary = final.with_name(f".moshi-{secrets.token_hex(8)}{final.suffix}")
    rights = 0o600 if private else 0o666
    _unfinished.add(temporary)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights))
    if final.exists():
        status = final.stat()
        if not private:
            temporary.chmod(status.st_mode & 0o777)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):
                os.chown(temporary, status.st_uid, status.st_gid)
    return _Output(path, temporary, final)


def _commit(made: list[_Output]) -> None:
    """All or none: what was there is kept beside until the last rename is done."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for output in made:
            if output.final is None:
                with open(output.temporary, "rb") as whole, open(output.path, "wb") as stream:
                    shutil.copyfileobj(whole, stream)
                continue
            done.append((output.final, _kept(output) if len(made) > 1 else None))
            output.temporary.replace(output.final)
    except BaseException:
        if len(made) > 1:
            for final, old in reversed(done):
                final.unlink(missing_ok=True) if old is None else old.replace(final)
        raise
    for _, old in done:
        if old is not None:
            old.unlink(missing_ok=True)


def _kept(output: _Output) -> Path | None:
    """What is there, under a second name until all is done; None where nothing is."""
    if output.final is None or not output.final.exists():
        return None
    old = output.temporary.with_name(output.temporary.name + ".old")
    try:
        os.link(output.final, old)
    except OSError:  # a disk without hard links
        shutil.copy2(output.final, old)
    return old


def _check_place(path: Path) -> None:
    folder = path.absolute().parent
    try:
        if path.is_dir():
            raise OutputError(
                f"{path} can't be written: it is a folder; give the name of a file in it"
            )
        if path.is_socket() or path.is_block_device():
            kind = "socket" if path.is_socket() else "disk"
            raise OutputError(f"{path} can't be written: it is a {kind}; choose another name")
        if not folder.is_dir():
            raise OutputError(f"{path} can't be written: {path.parent} is no folder; make it first")
        if not _is_stream(path):
            _begin(path).temporary.unlink()
        elif not path.exists():  # below /dev or /proc, where few files can be made
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            path.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"{path} can't be written ({reason}): choose another folder or name"
        ) from None


def _is_stream(path: Path) -> bool:
    """Whether it is written into: anything but a regular file, or what may become one."""
    return _place(path).startswith(STREAMS) or (path.exists() and not path.is_file())


def _place(path: Path) -> str:
    """Where the name itself lies: `/proc/self/cwd/a`, `/dev/../a` and links to folders followed."""
    absolute = path.absolute()
    return str(_resolved(absolute.parent) / absolute.name)


def _resolved(path: Path) -> Path:
    """Links followed; one that leads to itself stays (`Path.resolve` fails, or not, by version)."""
    return Path(os.path.realpath(path))


def _identity(path: Path) -> tuple[int, int] | str:
    """The same for two names of one file."""
    try:
        status = path.stat()
    except OSError:
        return str(_resolved(path))
    return (status.st_dev, status.st_ino)
