"""The KV cache of a conversation: rings of fixed size, allocated once, never trimmed.

Keys are stored after RoPE, so attention gives the same result in any ring order; one position is
written at a time, so a ring as long as the attention window holds exactly the keys that a query
may see. A batch has a ring for each of its rows. Shapes: R rows, H heads, W window, D head width,
L attended slots; [2, R, H, ...] is [2, H, ...] for a single row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...errors import MoshiError

FIRST_LENGTH = 128  # the shortest slice that is attended to; doubled until the window is reached
KV_BITS = (16, 8)  # 16: unquantized, in the dtype of the activations
GROUPS = (128, 64, 32)  # numbers with a scale and a bias in 8 bit; the first that divides is taken
SPLIT_KEYS, SPLIT_COLUMNS = 1024, 64  # so many keys: Metal takes values by 64 columns at a time

# One layer's keys and values: [2, H, W, D], or in 8 bit its codes uint32 [2, H, W, D / 4] and a
# scale and a bias for each group, float32 [2, H, W, D / group]: the error of a bf16 scale, times a
# code of 255, would be as large as that of the codes. The last part has the dtype of what is
# written, asked and answered.
Ring = tuple[mx.array, ...]


@dataclass(frozen=True)
class Position:
    """Where one step writes and what it sees; the same for all layers.

    slot: int32 [1, 1, 1, 1], or [1, R, 1, 1, 1]; rotations: int32 [3 R], the RoPE positions of all
    rows' q, then k, then v (v's are 0, which rotates by nothing); mask: bool [1, 1, 1, L], or of
    several rows [R, H, 1, L], None when all slots are live.
    """

    slot: mx.array
    rotations: mx.array
    length: int
    mask: mx.array | None


def new_ring(H: int, W: int, D: int, dtype: mx.Dtype, kv_bits: int = 16, R: int = 1) -> Ring:
    """An empty ring. Raises MoshiError as `check_kv_bits` does."""
    check_kv_bits(kv_bits, D, W)
    rows = () if R == 1 else (R,)
    return tuple(
        mx.zeros((2, *rows, H, W, width), part) for width, part in ring_parts(D, dtype, kv_bits)
    )


def ring_parts(D: int, dtype: mx.Dtype, kv_bits: int) -> list[tuple[int, mx.Dtype]]:
    """What a ring holds of a head, part by part: how many numbers, and of which dtype."""
    if kv_bits == 16:
        return [(D, dtype)]
    return [(D // 4, mx.uint32), *[(D // group_size(D), mx.float32)] * 2]


def slots_beside(steps: np.ndarray, window: int, pinned: np.ndarray) -> np.ndarray:
    """Where positions [B] are written: in place of the oldest one that isn't among the first
    `pinned` [B]."""
    return np.where(steps < window, steps, pinned + (steps - pinned) % (window - pinned))


def check_kv_bits(kv_bits: int, D: int, W: int) -> None:
    """MoshiError for bits that there aren't, or heads that can't be cut into groups."""
    if kv_bits not in KV_BITS:
        raise MoshiError(f"kv_bits is {kv_bits!r}; it must be 16 (not quantized) or 8")
    if kv_bits == 16:
        return
    if D % GROUPS[-1]:
        raise MoshiError(
            f"kv_bits=8 needs heads of a multiple of {GROUPS[-1]} numbers, and this model's have "
            f"{D}; leave it at 16"
        )
    if W >= SPLIT_KEYS and D % SPLIT_COLUMNS:
        raise MoshiError(
            f"kv_bits=8 with a context of {SPLIT_KEYS} or more needs heads of a multiple of "
            f"{SPLIT_COLUMNS} numbers, and this model's have {D}; leave it at 16"
        )


def group_size(D: int) -> int:
    """Numbers of a head that share a scale and a bias."""
    return next(group for group in GROUPS if D % group == 0)


def bits_per_number(kv_bits: int, D: int, dtype: mx.Dtype) -> float:
    """Memory of one number of a ring, its share of scale and bias counted."""
    return 8 * dtype.size if kv_bits == 16 else kv_bits + 2 * 32 / group_size(D)


def quantized(x: mx.array) -> Ring:
    """[..., D] -> what a ring in 8 bit holds of it."""
    return tuple(mx.quantize(x.astype(mx.float32), group_size=group_size(x.shape[-1]), bits=8))


def rounded(x: mx.array, kv_bits: int) -> mx.array:
    """Keys or values [..., D] as a ring gives them back."""
    if kv_bits == 16:
        return x
    return mx.dequantize(*quantized(x), group_size=group_size(x.shape[-1]), bits=8, dtype=x.dtype)


def write(ring: Ring, kv: mx.array, slot: mx.array) -> Ring:
    """Put one step, kv [2, R, H, 1, D], into `slot`; in place when nobody else holds the ring."""
    step = (kv,) if len(ring) == 1 else quantized(kv)
    return tuple(
        mx.put_along_axis(whole, mx.broadcast_to(slot, part.shape), part, axis=-2)
        for whole, part in zip(ring, step, strict=True)
    )


def read_slots(ring: Ring, rows: Sequence[int], n: int) -> Ring:
    """A copy of the first `n` slots of some rows, [2, rows, H, n, ...] each, not evaluated."""
    found = []
    for part in ring:
        whole = part[:, None] if part.ndim == 4 else part[:, list(rows)]
        halves = mx.split(whole[..., :n, :], 2, axis=0)
        found.append(mx.concatenate(list(halves)))  # no view: the next step would copy the ring
    return tuple(found)


def write_slots(ring: Ring, rows: Sequence[int], slots: Ring) -> Ring:
    """The other way; in place when nobody else holds the ring."""
    written = []
    for whole, part in zip(ring, slots, strict=True):
        if whole.ndim == 4:
            whole = mx.slice_update(whole, part.squeeze(1), mx.array([0]), axes=(2,))
        else:
            for row, one in zip(rows, mx.split(part, len(rows), axis=1), strict=True):
                whole = mx.slice_update(whole, one, mx.array([row]), axes=(1,))
        written.append(whole)
    return tuple(written)


def live(buffer: mx.array, length: int) -> tuple[mx.array, mx.array]:
    """The first `length` slots as views: keys and values, [R, H, L, ...] each."""
    whole = length == buffer.shape[-2]
    keys, values = mx.split(buffer if whole else buffer[..., :length, :], 2, axis=0)
    return (keys, values) if keys.ndim == 4 else (keys.squeeze(0), values.squeeze(0))


def attend(q: mx.array, ring: Ring, at: Position, scale: float) -> mx.array:
    """Attention of one query [R, H, 1, D] to the live slots -> [R, H, 1, D].

    In 8 bit the products read the codes as they are: nothing is dequantized into memory; scores
    are float32, as within the fused attention of 16 bit.
    """
    if len(ring) == 1:
        keys, values = live(ring[0], at.length)
        return mx.fast.scaled_dot_product_attention(q, keys, values, scale=scale, mask=at.mask)
    keys, values = zip(*(live(part, at.length) for part in ring), strict=True)
    group, heads = group_size(q.shape[-1]), q.shape[1]
    q = q.reshape(
        len(q), ring[0].shape[-3], -1, q.shape[-1]
    )  # query heads of one head of keys in a row
    scores = mx.quantized_matmul(q * scale, *keys, transpose=True, group_size=group, bits=8)
    if at.mask is not None:
        mask = at.mask if len(q) == 1 else at.mask.reshape(scores.shape)
        scores = mx.where(mask, scores, -mx.inf)
    weights = mx.softmax(scores, axis=-1, precise=True)
    out = mx.quantized_matmul(weights, *values, transpose=False, group_size=group, bits=8)
    return out.reshape(len(q), heads, 1, -1)


def lengths(window: int) -> tuple[int, ...]:
    """The few slice lengths that attention is traced for: 128, 256, ... and the whole window."""
    steps, length = [], FIRST_LENGTH
    while length < window:
        steps.append(length)
        length *= 2
    return (*steps, window)
