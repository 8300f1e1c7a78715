"""Device memory of a conversation, and what its conditions became.

Shapes: R rows of a step, S source steps, H heads, D head width, C model width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from .layers.kv_ring import Ring


@dataclass(frozen=True)
class Sources:
    """What the conditioners made: a sum [R, 1, C], and what is attended to [R, S, C]."""

    sum: mx.array | None = None
    cross: mx.array | None = None


@dataclass(frozen=True)
class Conditions:
    """What a conversation's steps are given of them, the same in each.

    sum: [R, 1, C]; keys, values: of each temporal layer's cross attention, [R, H, S, D].
    """

    sum: mx.array | None = None
    keys: tuple[mx.array, ...] = ()
    values: tuple[mx.array, ...] = ()

    def arrays(self) -> list[mx.array]:
        return [*([] if self.sum is None else [self.sum]), *self.keys, *self.values]

    @classmethod
    def of_arrays(cls, arrays: Sequence[mx.array], summed: bool) -> "Conditions":
        """The other way round."""
        rest = arrays[1:] if summed else arrays
        half = len(rest) // 2
        return cls(arrays[0] if summed else None, tuple(rest[:half]), tuple(rest[half:]))


@dataclass
class Buffers:
    """All device memory of one conversation: a ring a temporal layer."""

    rings: list[Ring]

    def arrays(self) -> list[mx.array]:
        return [part for ring in self.rings for part in ring]

    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays())
