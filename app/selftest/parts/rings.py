"""The KV cache at its real length: what a step writes, which slots it sees, at every slice length.

Shapes: H heads, W window, D head width, P times of a made-up history.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.config.lm_config import NO_INPUT, LmConfig
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.compiled_step import SINGLE, FrameFunction, HostFrame
from moshi_mlx.lm.layers.kv_ring import Position, Ring, attend, group_size, quantized, write
from moshi_mlx.lm.model import Lm
from moshi_mlx.lm.sampling import Sampler
from moshi_mlx.weights.recipes import Format

from .. import packed_numbers, probe
from ..models import same
from ..part import KV_16, NONE, Deviation, Fallback
from ..site import DTYPES, Site, apart, host
from .rounding import OF_ATTENTION, OF_EIGHT_BITS

WINDOW, HEADS = 3000, 2
WIDTHS = (128, 64)  # of a head: the 7B's, and one that other models have
UNSEEN = 50.0  # what empty slots hold, so that a step that sees one is far off

Locate = Callable[[FrameFunction, int], Position]
Write = Callable[[Ring, mx.array, mx.array], Ring]


def located(function: FrameFunction, step: int) -> Position:
    """Where a step writes and what it sees, as a talk's step is told."""
    live = min(step + 1, function.context)
    length = next(n for n in function.lengths if n >= live)
    tokens = np.zeros((1, 1 + function.lm.config.n_q), np.int32)
    frame = HostFrame(tokens, None, np.array([step]), np.array([0]), np.array([NO_INPUT]))
    fields = function.integers.cut(function.pack(frame, np.array([live])))
    scales, key = mx.ones((2, 1)), mx.zeros(2, mx.uint32)
    return function.inputs(fields, [], scales, key, [], length, live == function.context).at


@dataclass(frozen=True)
class RingCheck:
    """16 or 8 bit. `config`, `locate`, `write`: faults come in here."""

    kv_bits: int = 16
    config: Callable[[LmConfig], LmConfig] = same
    locate: Locate = located
    write: Write = write

    @property
    def name(self) -> str:
        return "KV cache" if self.kv_bits == 16 else "KV cache in 8 bit"

    @property
    def fallback(self) -> Fallback:
        return NONE if self.kv_bits == 16 else KV_16

    def check(self, site: Site) -> Iterator[Deviation]:
        kinds = DTYPES if self.kv_bits == 16 else {k: DTYPES[k] for k in ("fp32", "bf16")}
        for D in WIDTHS:
            raw = {**probe.TALKER, "dim": HEADS * D, "context": WINDOW, "num_layers": 1}
            with site.under_test():
                lm = Lm(self.config(parse_config(raw, "probe")), self.kv_bits)
                greedy = Sampler(True, 0, 0.0)
                function = FrameFunction(lm, (greedy, greedy), SINGLE, compiled=False)
            history = made_up(D)
            kept = as_kept(history, self.kv_bits)
            for step in steps(function.lengths):
                for kind, dtype in kinds.items() if WIDTHS[0] == D else [("fp32", mx.float32)]:
                    yield self.one(site, lm, function, (history, kept), step, kind, dtype)

    def one(
        self,
        site: Site,
        lm: Lm,
        function: FrameFunction,
        made: tuple[np.ndarray, np.ndarray],
        step: int,
        kind: str,
        dtype: mx.Dtype,
    ) -> Deviation:
        """`made`: a history, and what a ring gives back of it."""
        history, kept = made
        D = history.shape[-1]
        q = probe.as_bf16(probe.random(f"query {D}").standard_normal((1, HEADS, 1, D)))
        P = history.shape[2]
        with site.under_test():
            ring = self.ring_before(lm, history, step, dtype)
            at = self.locate(function, step)
            now = mx.array(history[:, :, step % P][:, :, None]).astype(dtype)
            ring = self.write(ring, now, at.slot)
            ours = host(attend(mx.array(q).astype(dtype), ring, at, D**-0.5))
        seen = [time % P for time in range(max(0, step + 1 - WINDOW), step + 1)]
        right = attention(q, kept[:, :, seen], D**-0.5)
        allowed = OF_ATTENTION[kind] + (OF_EIGHT_BITS if self.kv_bits == 8 else 0)
        return Deviation(f"{kind}, heads of {D}, step {step}", apart(ours, right), allowed)

    def ring_before(self, lm: Lm, history: np.ndarray, step: int, dtype: mx.Dtype) -> Ring:
        """As the steps before have left it; of the size that the model gives it."""
        (size,) = {part.shape[-2] for part in lm.new_buffers().rings[0]}
        slots = np.full((2, HEADS, size, history.shape[-1]), UNSEEN, np.float32)
        for start in range(0, step, history.shape[2]):  # the later ones over the earlier ones
            times = np.arange(max(start, step - size), min(start + history.shape[2], step))
            slots[:, :, times % size] = history[:, :, times % history.shape[2]]
        kept = mx.array(slots).astype(dtype)
        return (kept,) if self.kv_bits == 16 else quantized(kept)


def steps(lengths: tuple[int, ...]) -> list[int]:
    """The last step of each slice length, one in the middle, and some past the wrap."""
    found = {length - 1 for length in lengths} | {length // 2 + 5 for length in lengths}
    return sorted(found | {WINDOW, WINDOW + 7, 2 * WINDOW - 1, 2 * WINDOW, 3 * WINDOW + 1})


def made_up(D: int) -> np.ndarray:
    """Keys and values of more times than the window has, float32 [2, H, P, D]."""
    drawn = probe.random(f"history {D}").standard_normal((2, HEADS, WINDOW + 17, D))
    return probe.as_bf16(drawn)


def as_kept(history: np.ndarray, kv_bits: int) -> np.ndarray:
    """What a ring gives back of keys and values: codes of 8 bit are unpacked by numpy."""
    if kv_bits == 16:
        return history.astype(np.float64)
    chosen = Format(8, group_size(history.shape[-1]))
    with mx.stream(mx.cpu):
        parts = mx.quantize(mx.array(history), group_size=chosen.group_size, bits=8)
        weight, scales, biases = (np.array(p).reshape(-1, p.shape[-1]) for p in parts)
    rows = packed_numbers.unpacked({"weight": weight, "scales": scales, "biases": biases}, chosen)
    return rows.reshape(history.shape).astype(np.float64)


def attention(q: np.ndarray, history: np.ndarray, scale: float) -> np.ndarray:
    """q [1, H, 1, D] to history [2, H, L, D], in double precision."""
    keys, values = history
    scores = np.einsum("hd,hld->hl", q[0, :, 0].astype(np.float64), keys) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hl,hld->hd", weights, values)[None, :, None]
