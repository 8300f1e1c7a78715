"""Runs one part: whatever it raises is its fault."""

import re
import time
from collections.abc import Callable, Iterable

from .part import (
    FAILED,
    NOT_HERE,
    OFF,
    OK,
    Deviation,
    Fallback,
    FasterWay,
    Note,
    NotHereError,
    Part,
    PartResult,
)
from .site import Site

LONGEST_WHY = 160


def examine(part: Part, site: Site) -> PartResult:
    """A part's worst deviation and its notes. Raises KeyboardInterrupt alone."""
    return examined(part.name, part.fallback, lambda: part.check(site))


def examined(
    name: str, fallback: Fallback, check: Callable[[], Iterable[Deviation | Note | FasterWay]]
) -> PartResult:
    """The same of anything that finds deviations and notes."""
    start, worst, notes, gains = time.monotonic(), None, [], []
    status, why = OK, ""
    try:
        for found in check():
            if isinstance(found, Note):
                notes.append(found.text)
            elif isinstance(found, FasterWay):
                gains.append(found.name)
            elif worst is None or found.share > worst.share:
                worst = found
        if worst is not None and not worst.ok:
            status = OFF
    except NotHereError as reason:
        status, why = NOT_HERE, str(reason)
    except Exception as error:  # MLX raises many kinds, and any of them is what we came for
        status, why = FAILED, reason_of(error)
    seconds = time.monotonic() - start
    told = (worst, why, tuple(notes), fallback, tuple(gains))
    return PartResult(name, status, seconds, *told)


def reason_of(error: BaseException) -> str:
    """One line of an error, fit for a report that anybody may read: no path."""
    lines = str(error).strip().splitlines()
    return without_paths(f"{type(error).__name__}: {lines[0] if lines else ''}")


def without_paths(text: str) -> str:
    return re.sub(r"\S*[/\\]\S+", "...", text)[:LONGEST_WHY]
