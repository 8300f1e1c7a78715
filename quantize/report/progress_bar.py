"""How far a long run is: a bar on a terminal, a line for each of its stages in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(what: str, unit: str, total: int | None = None) -> Iterator[tqdm]:
    """`total` may be set later. Unit: " frames"; a large count of weights is shortened."""
    drawn = sys.stderr.isatty()
    if not drawn:
        print(f"{what} ...", file=sys.stderr, flush=True)
    scaled = unit == " weights"
    with tqdm(total=total, unit=unit, unit_scale=scaled, desc=what, disable=not drawn) as bar:
        yield bar
