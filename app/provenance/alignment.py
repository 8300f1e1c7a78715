"""Where landmarks of a stretch of sound agree in time with those of a talk, and how well.

What is said again has them all along; what is another's has a burst where a word sounds alike, and
few elsewhere: a synthesizer says each word as it always does. So no half second counts for more
than some landmarks, however many agree in it.
"""

import numpy as np

BLOCK_TICKS = 31  # half a second
MOST_PER_BLOCK = 6  # of a second at most 12, of 10 s 120 and a few


def best_place(shifts: np.ndarray, ticks: np.ndarray) -> tuple[int, int]:
    """Of pairs of a landmark asked for and one that is known, int64 [n] each: how much later the
    known one is, and when the other was heard. -> the shift on which most agree to +-1 tick, and
    how many do, no more than MOST_PER_BLOCK of any half second. 0, 0 of none."""
    if not len(shifts):
        return 0, 0
    near = np.concatenate([shifts - 1, shifts, shifts + 1])
    block = np.tile(ticks // BLOCK_TICKS, 3)
    order = np.lexsort((block, near))
    near, block = near[order], block[order]
    blocks = np.flatnonzero(_begins(near) | _begins(block))
    counts = np.diff(blocks, append=len(near))
    places = np.flatnonzero(_begins(near[blocks]))
    counted = np.add.reduceat(np.minimum(counts, MOST_PER_BLOCK), places)
    all_of_them = np.add.reduceat(counts, places)
    best = np.lexsort((all_of_them, counted))[-1]  # where that many agree, the sharpest place
    return int(near[blocks[places[best]]]), int(counted[best])


def _begins(values: np.ndarray) -> np.ndarray:
    """bool [n]: where a value differs from the one before it."""
    return np.append(True, values[1:] != values[:-1])
