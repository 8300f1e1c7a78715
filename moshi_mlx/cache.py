"""Keys and values of a conversation: rings of fixed size, allocated once, never trimmed.

Keys are stored after RoPE, so attention gives the same result in any ring order; one position is
written at a time, so a ring as long as the attention window holds exactly the keys that a query
may see. A conversation has a batch of one. Shapes: H heads, W window, D head width, L attended
slots.
"""

from dataclasses import dataclass

import mlx.core as mx

FIRST_LENGTH = 128  # the shortest slice that is attended to; doubled until the window is reached


@dataclass(frozen=True)
class Position:
    """Where one step writes and what it sees; the same for all layers.

    slot: int32 [1, 1, 1, 1]; rotations: int32 [3], the RoPE positions of q, k and v (v's is 0,
    which rotates by nothing); mask: bool [1, 1, 1, L], None when all slots are live.
    """

    slot: mx.array
    rotations: mx.array
    length: int
    mask: mx.array | None


def new_ring(H: int, W: int, D: int, dtype: mx.Dtype) -> mx.array:
    """An empty ring for keys and values together, [2, H, W, D]."""
    return mx.zeros((2, H, W, D), dtype)


def write(ring: mx.array, kv: mx.array, slot: mx.array) -> mx.array:
    """Put one step, kv [2, H, 1, D], into `slot`; in place when nobody else holds the ring."""
    return mx.put_along_axis(ring, mx.broadcast_to(slot, kv.shape), kv, axis=2)


def live(ring: mx.array, length: int) -> tuple[mx.array, mx.array]:
    """The first `length` slots as views: keys and values, [1, H, L, D] each."""
    keys, values = mx.split(ring if length == ring.shape[2] else ring[:, :, :length], 2, axis=0)
    return keys, values


def lengths(window: int) -> tuple[int, ...]:
    """The few slice lengths that attention is traced for: 128, 256, ... and the whole window."""
    steps, length = [], FIRST_LENGTH
    while length < window:
        steps.append(length)
        length *= 2
    return (*steps, window)
