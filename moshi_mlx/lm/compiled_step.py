"""The step of a frame as a function of plain arrays: traced once per cache length, compiled."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ..backend.compiler import can_compile
from ..config.lm_config import NO_INPUT, LmConfig
from .buffers import Buffers, Conditions
from .conversation import LmConversation
from .delay_line import LATER
from .layers.kv_ring import Position, Ring, lengths, slots_beside
from .model_digest import ModelDigest
from .sampling import Draws
from .step_inputs import Integers, Layout, StepInputs

FUNCTIONS_KEPT = 8  # ways of sampling that a model keeps its step for
SINGLE = Layout()


class FrameModel(Protocol):
    """What a conversation needs of its language model: `lm.model.Lm` is one."""

    config: LmConfig
    kv_bits: int
    model_digest: ModelDigest
    functions: "FrameFunctions"
    forced_texts: int  # numbers that stand for the text token: Lm takes one

    def step(
        self, inputs: StepInputs, buffers: Buffers, draws: Draws
    ) -> tuple[mx.array, mx.array | None]: ...

    def new_buffers(self, kv_bits: int | None = None, rows: int = 1) -> Buffers: ...

    def conditions(
        self, values: Any, guided: bool = False, negatives: Any = None
    ) -> Conditions: ...

    @property
    def dtype(self) -> mx.Dtype: ...


@dataclass(frozen=True)
class HostFrame:
    """A step on the host, of B conversations in R rows.

    tokens: int [R, 1 + n_q], text first, LATER for what `user` brings; user: lazy codes int32
    [B, user_q], for a single row [user_q], None where `tokens` has them; steps, seeds: int [B];
    forced_text: int [B], taken for the text token that is sampled, -1 for none (as many numbers as
    the model wants of them: `FrameModel.forced_texts`); pinned: int [B], first positions whose
    slots are never written again, None for none.
    """

    tokens: np.ndarray
    user: mx.array | None
    steps: np.ndarray
    seeds: np.ndarray
    forced_text: np.ndarray
    pinned: np.ndarray | None = None


@dataclass
class Held:
    """Conversations on the device: what all of their steps are given, and their buffers."""

    scales: mx.array  # float32 [2 B or 3 B, 1], see StepInputs
    given: Conditions
    buffers: Buffers


class WarmThread(threading.local):
    """Kinds of steps that were traced, another set on every thread."""

    def __init__(self) -> None:
        self.kinds: set[tuple] = set()


def scales_of(talks: Sequence[LmConversation]) -> mx.array:
    """Temperatures, and the strength of guidance, of conversations; see StepInputs."""
    rows = [
        [talk.sampling.text_temperature for talk in talks],
        [talk.sampling.audio_temperature for talk in talks],
    ]
    if all(talk.guidance is not None for talk in talks):
        rows.append([talk.guidance.coef for talk in talks if talk.guidance is not None])
    return mx.array(np.array(rows, np.float32).reshape(-1, 1))


class FrameFunction:
    """Calls of `Lm.step` for one model, one way of sampling and one layout of the batch.

    Conversations share it. Temperatures are inputs: another one needs no other function.
    """

    def __init__(self, lm: FrameModel, draws: Draws, layout: Layout, compiled: bool) -> None:
        self.lm, self.draws, self.layout = lm, draws, layout
        context, config = lm.config.transformer.context, lm.config
        assert context is not None
        self.context, self.lengths = context, lengths(context)
        self.integers = Integers(config, layout, lm.forced_texts)
        self.first_rows = np.arange(config.n_q, dtype=np.int32) * (config.card + 1)  # of tables
        self.compile = compiled and can_compile()
        self.functions: dict[tuple[int, bool], Callable] = {}
        self.traces = 0  # graphs built so far, uncompiled ones counted each time
        self._warm = WarmThread()

    @property
    def warm(self) -> set[tuple]:
        """What was traced on this thread: MLX keeps graphs for each thread."""
        return self._warm.kinds

    def __call__(self, frame: HostFrame, held: Held) -> tuple[mx.array, mx.array | None]:
        """Lazy tokens [(1 + dep_q) * B], extra heads [heads * R, D]; the buffers are replaced."""
        live, buffers = np.minimum(frame.steps + 1, self.context), held.buffers
        full = bool(live.min() == self.context)
        length = next(n for n in self.lengths if n >= live.max())
        keys = np.stack([frame.seeds, frame.steps], axis=-1).astype(np.uint32)
        drawn, extra, buffers.rings = self.traced(length, full)(
            self.pack(frame, live),
            [] if frame.user is None else [frame.user],
            mx.array(keys if len(keys) > 1 else keys[0]),
            held.scales,
            buffers.rings,
            held.given.arrays(),
        )
        return drawn, extra[0] if extra else None

    def pack(self, frame: HostFrame, live: np.ndarray) -> mx.array:
        """All integers of a step in one array."""
        config, codes = self.lm.config, frame.tokens[:, 1:]
        times = self.layout.rows // self.layout.conversations
        steps = np.tile(frame.steps, times)
        rows = np.where(codes == NO_INPUT, config.n_q * (config.card + 1), codes + self.first_rows)
        return self.integers.pack(
            {
                "slot": steps % self.context
                if frame.pinned is None
                else np.tile(slots_beside(frame.steps, self.context, frame.pinned), times),
                "rotations": np.stack([steps, steps, np.zeros_like(steps)]),
                "live": np.tile(live, times),
                "forced_text": frame.forced_text,
                "text": frame.tokens[:, 0],
                "rows": np.where(codes == LATER, LATER, rows),
            }
        )

    def traced(self, length: int, full: bool) -> Callable:
        """The function for one slice length, compiled where that works."""
        if (length, full) not in self.functions:

            def call(
                packed: mx.array,
                user: list[mx.array],
                key: mx.array,
                scales: mx.array,
                rings: list[Ring],
                extras: list[mx.array],
            ) -> tuple[Any, ...]:
                self.traces += 1
                fields = self.integers.cut(packed)
                inputs = self.inputs(fields, user, scales, key, extras, length, full)
                buffers = Buffers(list(rings))
                drawn, extra = self.lm.step(inputs, buffers, self.draws)
                return drawn, [] if extra is None else [extra], buffers.rings

            self.functions[length, full] = mx.compile(call) if self.compile else call
        return self.functions[length, full]

    def inputs(
        self,
        fields: dict[str, mx.array],
        user: list[mx.array],
        scales: mx.array,
        key: mx.array,
        extras: list[mx.array],
        length: int,
        full: bool,
    ) -> StepInputs:
        """What the model's step is given, within the graph."""
        fuser, rows = self.lm.config.fuser, fields["rows"]
        mask = None
        if not full:
            slots, H = np.arange(length, dtype=np.int32), self.lm.config.transformer.num_heads
            if self.layout.rows > 1:  # for every head, or Metal's attention copies it in each layer
                slots = np.broadcast_to(slots, (1, H, 1, length))
            mask = mx.array(slots) < fields["live"]
            mask = mask.reshape(1, 1, 1, length) if self.layout.rows == 1 else mask
        return StepInputs(
            text=fields["text"],
            rows=self.with_user(rows, user[0]) if user else rows,
            forced_text=fields["forced_text"],
            at=Position(fields["slot"], fields["rotations"], length, mask),
            scales=scales,
            key=key,
            given=Conditions.of_arrays(extras, summed=bool(fuser.sum)),
            layout=self.layout,
        )

    def with_user(self, rows: mx.array, codes: mx.array) -> mx.array:
        """Rows [n_q] or [R, n_q] with those of the user's codes where they are LATER."""
        dep_q = self.lm.config.dep_q
        late = codes + mx.array(self.first_rows[dep_q:])
        own = mx.array(np.zeros((*late.shape[:-1], dep_q), np.int32))
        late = mx.concatenate([own, late], axis=-1)
        if late.ndim < rows.ndim or len(late) < len(rows):  # with guidance: the same for both rows
            late = mx.tile(late, (len(rows) // self.layout.conversations, 1))
        return mx.where(rows == LATER, late, rows)

    def warm_up(self, held: Held, kv_bits: int, user_later: bool, begun: bool) -> bool:
        """Trace and run once at every slice length; False where that was done on this thread.

        Before the first step (not `begun`) in their own buffers: a second pair may not fit in
        memory. They are empty again afterwards.
        """
        kind = (user_later, kv_bits, *(array.shape for array in held.given.arrays()))
        if kind in self.warm:
            return False
        new_buffers = partial(self.lm.new_buffers, kv_bits, self.layout.rows)
        if begun:
            held = replace(held, buffers=new_buffers())
        try:
            self._run_each(held, user_later)
        finally:
            held.buffers = Buffers([])  # the old ones go first
            held.buffers = new_buffers()
        self.warm.add(kind)
        return True

    def _run_each(self, held: Held, user_later: bool) -> None:
        config, B = self.lm.config, self.layout.conversations
        tokens = np.zeros((self.layout.rows, 1 + config.n_q), np.int32)
        shape = (config.user_q,) if B == 1 else (B, config.user_q)
        user = mx.zeros(shape, mx.int32) if user_later else None
        steps = [length - 2 for length in self.lengths if length >= 2] + [self.context - 1]
        forced = np.full(B * self.lm.forced_texts, NO_INPUT)
        for step in sorted(set(steps)):
            frame = HostFrame(tokens, user, np.full(B, step), np.zeros(B), forced)
            drawn, _ = self(frame, held)
            mx.eval(drawn, held.buffers.arrays())


class FrameFunctions:
    """A model's step for each way of sampling and layout, made on first use; the oldest ones go."""

    def __init__(self, lm: FrameModel) -> None:
        self._lm = lm
        self._made: dict[tuple[Draws, Layout, bool], FrameFunction] = {}

    def of(self, draws: Draws, layout: Layout = SINGLE, compiled: bool = True) -> FrameFunction:
        """The function for these two samplers, which are compared as they compare themselves."""
        kind = (draws, layout, compiled)
        if kind not in self._made:
            if len(self._made) >= FUNCTIONS_KEPT:  # settings not used again must not pile up
                self._made.pop(next(iter(self._made)))
            self._made[kind] = FrameFunction(self._lm, draws, layout, compiled)
        return self._made[kind]
