"""Whether a text goes in circles: what people hear when too many bits are gone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LONGEST_PERIOD = 64  # tokens of a loop's unit


@dataclass(frozen=True)
class Repetition:
    """Figures of a sequence of text tokens, padding left out.

    entropy_bits: of the tokens' frequencies. distinct: share of different n-grams for n = 1, 2, 3.
    loop_tokens: the longest stretch that repeats a unit of `loop_period` tokens (at most
    LONGEST_PERIOD) at least twice; 0: none does.
    """

    tokens: int
    entropy_bits: float
    distinct: tuple[float, float, float]
    loop_tokens: int
    loop_period: int

    @property
    def loop_repeats(self) -> float:
        return self.loop_tokens / self.loop_period if self.loop_period else 0.0


def repetition(tokens: Sequence[int]) -> Repetition:
    """Integers [n] -> its figures; those of an empty sequence are 0."""
    length, period = longest_loop(tokens)
    return Repetition(
        len(tokens),
        entropy_bits(tokens),
        (distinct(tokens, 1), distinct(tokens, 2), distinct(tokens, 3)),
        length,
        period,
    )


def entropy_bits(tokens: Sequence[int]) -> float:
    if not len(tokens):
        return 0.0
    counts = np.unique(np.asarray(tokens), return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no -0.0


def distinct(tokens: Sequence[int], n: int) -> float:
    """Different n-grams as a share of all."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def longest_loop(tokens: Sequence[int]) -> tuple[int, int]:
    """(tokens, period) of the longest stretch that repeats its first `period` tokens twice or more;
    (0, 0) without one. Of equally long ones the shortest period."""
    array, best = np.asarray(tokens), (0, 0)
    for period in range(1, min(LONGEST_PERIOD, len(array) // 2) + 1):
        same = np.concatenate([[False], array[period:] == array[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        run = int((edges[1::2] - edges[::2]).max(initial=0))
        if run >= period and run + period > best[0]:
            best = (run + period, period)
    return best
