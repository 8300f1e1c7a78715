"""Device memory of a conversation, and what its conditions became.

Shapes: S source steps, C model width.
"""

from dataclasses import dataclass

import mlx.core as mx

from .layers.kv_ring import Ring


@dataclass(frozen=True)
class Conditions:
    """What the conditioners made: a sum [1, 1, C] and a cross attention source [1, S, C]."""

    sum: mx.array | None = None
    cross: mx.array | None = None

    def arrays(self) -> list[mx.array]:
        return [array for array in (self.sum, self.cross) if array is not None]


@dataclass
class Buffers:
    """All device memory of one conversation: a ring a temporal layer."""

    rings: list[Ring]

    def arrays(self) -> list[mx.array]:
        return [part for ring in self.rings for part in ring]

    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays())
