"""What one frame's graph is made of: its integers in one array, and all that the step is given.

Every array that goes to the device costs host time, so the integers of a step travel as one. A
table of their names and shapes packs them on the host and cuts them in the graph.
Shapes: K codebooks, C width, L attended slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import mlx.core as mx
import numpy as np

from ..config.lm_config import LmConfig
from .buffers import Conditions
from .kv_ring import Position


class Integers:
    """The table: field -> its shape, one after the other in an int32 array."""

    def __init__(self, config: LmConfig, forced_texts: int = 1) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {
            "slot": (1, 1, 1, 1),  # of the rings, that this step writes
            "rotations": (3,),  # RoPE positions of q, k and v; v's is 0
            "live": (1,),  # slots that attention may see
            "forced_text": (forced_texts,),  # stands for the sampled text token; -1: none
            "text": (1,),  # input token
            "rows": (config.n_q,),  # of the stacked embedding, for the input codes
        }
        ends = np.cumsum([prod(shape) for shape in self.shapes.values()])
        self._cuts: list[int] = ends[:-1].tolist()
        self.size = int(ends[-1])

    def pack(self, values: Mapping[str, object]) -> mx.array:
        """A value for each field -> int32 [size]."""
        parts = [np.reshape(values[name], -1) for name in self.shapes]  # type: ignore[arg-type]
        return mx.array(np.concatenate(parts).astype(np.int32))

    def cut(self, packed: mx.array) -> dict[str, mx.array]:
        """int32 [size] -> the fields in their shapes, as views."""
        parts = zip(self.shapes.items(), mx.split(packed, self._cuts), strict=True)
        return {
            name: part if len(shape) == 1 else part.reshape(shape) for (name, shape), part in parts
        }


@dataclass(frozen=True)
class StepInputs:
    """One frame of a conversation, on the device and lazy.

    text: int32 [1]; rows: int32 [K], of the stacked embedding; forced_text: int32 [1], -1 for
    none; temperatures: float32 [2], of text and audio; key: uint32 [2], of the noise.
    """

    text: mx.array
    rows: mx.array
    forced_text: mx.array
    at: Position
    temperatures: mx.array
    key: mx.array
    given: Conditions
