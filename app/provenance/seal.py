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


def seal_told(path: Path, origin: Origin, name: Path, tell: Callable[[str], None]) -> None:
    """`seal`, for what has no manifest beside it that says why it is unsigned: tell gets that line,
    but none without the extra. name: what the file is going to be called."""
    why = seal(path, origin)
    if why not in ("", WITHOUT_EXTRA):
        tell(f"{printable(str(name))}: {why}")
