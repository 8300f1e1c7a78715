"""The streaming state of one direction: a list of arrays that the caller owns and layers replace.

Slot 0 counts the positions heard so far; every other slot belongs to one layer, which was given
its number when it was built. Layers never keep state, so any number of streams share one model.

    kind of slot         shape                          holds
    position             [] int32                       positions (25 a second) heard so far
    convolution          [B, kernel - stride, C]        the input's last samples
    transposed conv      [B, 1, C]                      the input's last step
    keys and values      [2, B, H, context - 1, D]      keys after RoPE, oldest first
"""

import mlx.core as mx

POSITION = 0

State = list[mx.array]


class StateLayout:
    """Hands out slots while a model is built, and makes zeroed states of it afterwards."""

    def __init__(self) -> None:
        self._shapes: list[tuple[int, ...]] = [()]

    def add(self, *shape: int) -> int:
        """The number of a new slot of `shape`, with 1 for the batch."""
        self._shapes.append(shape)
        return len(self._shapes) - 1

    def zeros(self, dtype: mx.Dtype) -> State:
        """The state of a stream that has heard nothing, in memory already."""
        state = [mx.zeros((), mx.int32)] + [mx.zeros(shape, dtype) for shape in self._shapes[1:]]
        mx.eval(state)
        return state
