"""Reports as files: checked before a long run, written whole or not at all."""

import tempfile
from pathlib import Path

from moshi_mlx.errors import MoshiError


def check_writable(path: Path) -> None:
    """Raises MoshiError where a file of this name can't be made: asked before the work starts."""
    if path.is_dir():
        raise MoshiError(f"{path} is a folder: give the name of a file in it")
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def write_report(path: Path, text: str) -> None:
    """A whole file or none. Raises MoshiError where it can't be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> MoshiError:
    reason = error.strerror or type(error).__name__
    return MoshiError(f"{path} can't be written ({reason}): choose another place")
