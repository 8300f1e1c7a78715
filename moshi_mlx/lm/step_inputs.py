"""What one frame's graph is made of: its integers in one array, and all that the step is given.

Every array that goes to the device costs host time, so the integers of a step travel as one. A
table of their names and shapes packs them on the host and cuts them in the graph.
Shapes: B conversations, R rows of the batch, K codebooks, C width, L attended slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import mlx.core as mx
import numpy as np

from ..config.lm_config import LmConfig
from .buffers import Conditions
from .layers.kv_ring import Position


@dataclass(frozen=True)
class Layout:
    """The rows of a step: B conversations, or with guidance 2 B, those without conditions last.

    guides_text: whether text is guided as codes are (PyTorch: not `cfg_is_no_text`).
    """

    conversations: int = 1
    guided: bool = False
    guides_text: bool = True

    @property
    def rows(self) -> int:
        return self.conversations * (2 if self.guided else 1)


class Integers:
    """The table: field -> its shape, one after the other in an int32 array."""

    def __init__(self, config: LmConfig, layout: Layout, forced_texts: int = 1) -> None:
        R, K = layout.rows, config.n_q
        self.shapes: dict[str, tuple[int, ...]] = {
            "slot": (1, 1, 1, 1) if R == 1 else (1, R, 1, 1, 1),  # of the rings, written by a step
            "rotations": (3 * R,),  # RoPE positions of all q, all k, all v; v's are 0
            "live": (1,) if R == 1 else (R, 1, 1, 1),  # slots that attention may see
            "forced_text": (
                layout.conversations * forced_texts,
            ),  # for the sampled token; -1: none
            "text": (R,),  # input token
            "rows": (K,) if R == 1 else (R, K),  # of the stacked embedding, for the input codes
        }
        ends = np.cumsum([prod(shape) for shape in self.shapes.values()])
        self._cuts: list[int] = ends[:-1].tolist()
        self.size = int(ends[-1])

    def pack(self, values: Mapping[str, np.ndarray]) -> mx.array:
        """A value for each field, of its size -> int32 [all]."""
        parts = [values[name].reshape(-1) for name in self.shapes]
        return mx.array(np.concatenate(parts).astype(np.int32))

    def cut(self, packed: mx.array) -> dict[str, mx.array]:
        """int32 [all] -> the fields in their shapes, as views."""
        parts = zip(self.shapes.items(), mx.split(packed, self._cuts), strict=True)
        return {
            name: part if len(shape) == 1 else part.reshape(shape) for (name, shape), part in parts
        }


@dataclass(frozen=True)
class StepInputs:
    """One frame of B conversations in R rows, on the device and lazy.

    text: int32 [R]; rows: int32 [K] or [R, K], of the stacked embedding; forced_text: int32 [B],
    -1 for none; scales: float32 [2 B, 1], temperatures of text, then of audio, and with guidance
    its strength, [3 B, 1]; key: uint32 [2] or [B, 2], of the noise.
    """

    text: mx.array
    rows: mx.array
    forced_text: mx.array
    at: Position
    scales: mx.array
    key: mx.array
    given: Conditions
    layout: Layout

    def scale(self, i: int) -> mx.array:
        """[B, 1]: 0 the temperature of text, 1 of audio, 2 the strength of guidance."""
        B = self.layout.conversations
        return self.scales[i * B : (i + 1) * B]

    def of_conversations(self, logits: mx.array, guided: bool = True) -> mx.array:
        """Logits [R, V] -> [B, V]: where a row has a negative beside it, away from that.

        Not `guided`: the rows with conditions alone. Source: PyTorch `LMGen._step`.
        """
        if not self.layout.guided:
            return logits
        given, without = mx.split(logits, 2, axis=0)
        return without + (given - without) * self.scale(2) if guided else given
