"""What is done with a finished file of generated sound: signed, where the extra `c2pa` is there."""

from collections.abc import Callable
from pathlib import Path

from moshi_mlx.errors import MoshiError, printable

from .credentials import available, sign
from .origin import Origin
from .signing_key import signing_key

Seal = Callable[[Path, Origin], str]  # returns "" when the file is signed, else one line why not
WITHOUT_EXTRA = "unsigned: the extra c2pa isn't installed"
BYTES_PER_S = 10_000_000  # a third of what was measured


def seal(path: Path, origin: Origin) -> str:
    """A `Seal`. Never raises: an unsigned file is as good, and says so itself."""
    if not available():
        return WITHOUT_EXTRA
    try:
        sign(path, origin, signing_key())
    except MoshiError as error:
        return str(error)
    return ""


def no_time() -> str:
    """Why a file is unsigned that the end of the process left no time for."""
    return "unsigned: there was no time" if available() else WITHOUT_EXTRA


def is_news(why: str) -> bool:
    """Whether the user is told this reason: that the extra isn't there was his choice."""
    return why not in ("", WITHOUT_EXTRA)


def seal_told(path: Path, origin: Origin, name: Path, tell: Callable[[str], None]) -> None:
    """`seal`; tell gets the line why the file is unsigned, where that is news. name: what the file
    is going to be called."""
    why = seal(path, origin)
    if is_news(why):
        tell(f"{printable(str(name))}: {why}")
