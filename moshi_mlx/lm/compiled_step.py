"""The step of a frame as a function of plain arrays: traced once per cache length, compiled."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ..backend.compiler import can_compile
from ..config.lm_config import NO_INPUT, LmConfig
from .buffers import Buffers, Conditions
from .delay_line import LATER
from .kv_ring import Position, Ring, lengths
from .sampling import Draws
from .step_inputs import Integers, StepInputs

FUNCTIONS_KEPT = 8  # ways of sampling that a model keeps its step for


class FrameModel(Protocol):
    """What a conversation needs of its language model: `lm.model.Lm` is one."""

    config: LmConfig
    kv_bits: int
    functions: "FrameFunctions"
    forced_texts: int  # numbers that stand for the text token: Lm takes one

    def step(
        self, inputs: StepInputs, buffers: Buffers, draws: Draws
    ) -> tuple[mx.array, mx.array | None]: ...

    def new_buffers(self, kv_bits: int | None = None) -> Buffers: ...

    def conditions(self, values: Any) -> Conditions: ...


@dataclass(frozen=True)
class Frame:
    """A step on the host. tokens: int [1 + n_q], text first, LATER for what `user` brings.

    user: lazy codes int32 [user_q], None where `tokens` has them; forced_text: taken for the text
    token that is sampled, -1 for none.
    """

    tokens: np.ndarray
    user: mx.array | None
    step: int
    seed: int
    forced_text: int | tuple[int, ...] = NO_INPUT


@dataclass
class Held:
    """A conversation on the device: what all of its steps are given, and its buffers."""

    temperatures: mx.array  # float32 [2]
    given: Conditions
    buffers: Buffers


class WarmThread(threading.local):
    """Kinds of steps that were traced, another set on every thread."""

    def __init__(self) -> None:
        self.kinds: set[tuple] = set()


class FrameFunction:
    """Calls of `Lm.step` for one model and one way of sampling; shared by its conversations.

    Temperatures are inputs: another one needs no other function.
    """

    def __init__(self, lm: FrameModel, draws: Draws, compiled: bool) -> None:
        self.lm, self.draws = lm, draws
        context = lm.config.transformer.context
        assert context is not None
        self.context, self.lengths = context, lengths(context)
        self.integers = Integers(lm.config, lm.forced_texts)
        self.compile = compiled and can_compile()
        self.functions: dict[tuple[int, bool], Callable] = {}
        self.traces = 0  # graphs built so far, uncompiled ones counted each time
        self._warm = WarmThread()

    @property
    def warm(self) -> set[tuple]:
        """What was traced on this thread: MLX keeps graphs for each thread."""
        return self._warm.kinds

    def __call__(self, frame: Frame, held: Held) -> tuple[mx.array, mx.array | None]:
        """Lazy tokens [1 + dep_q], extra heads [heads, D]; the buffers are brought up to date."""
        step, buffers = frame.step, held.buffers
        full = step + 1 >= self.context
        length = next(n for n in self.lengths if n > step % self.context or n == self.context)
        call = self.traced(self.context if full else length, full)
        drawn, extra, buffers.rings = call(
            self.pack(frame),
            [] if frame.user is None else [frame.user],
            mx.array(np.array([frame.seed, step], np.uint32)),
            held.temperatures,
            buffers.rings,
            held.given.arrays(),
        )
        return drawn, extra[0] if extra else None

    def pack(self, frame: Frame) -> mx.array:
        """All integers of a step in one array."""
        config = self.lm.config
        first = np.arange(config.n_q) * (config.card + 1)
        codes, step = frame.tokens[1:], frame.step
        rows = np.where(codes == NO_INPUT, config.n_q * (config.card + 1), codes + first)
        return self.integers.pack(
            {
                "slot": step % self.context,
                "rotations": (step, step, 0),
                "live": min(step + 1, self.context),
                "forced_text": frame.forced_text,
                "text": frame.tokens[0],
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
                temperatures: mx.array,
                rings: list[Ring],
                extras: list[mx.array],
            ) -> tuple[Any, ...]:
                self.traces += 1
                fields = self.integers.cut(packed)
                inputs = self.inputs(fields, user, temperatures, key, extras, length, full)
                buffers = Buffers(list(rings))
                drawn, extra = self.lm.step(inputs, buffers, self.draws)
                return drawn, [] if extra is None else [extra], buffers.rings

            self.functions[length, full] = mx.compile(call) if self.compile else call
        return self.functions[length, full]

    def inputs(
        self,
        fields: dict[str, mx.array],
        user: list[mx.array],
        temperatures: mx.array,
        key: mx.array,
        extras: list[mx.array],
        length: int,
        full: bool,
    ) -> StepInputs:
        """What the model's step is given, within the graph."""
        fuser, rows = self.lm.config.fuser, fields["rows"]
        mask = (
            (mx.array(np.arange(length, dtype=np.int32)) < fields["live"]).reshape(1, 1, 1, length)
            if not full
            else None
        )
        return StepInputs(
            text=fields["text"],
            rows=self.with_user(rows, user[0]) if user else rows,
            forced_text=fields["forced_text"],
            at=Position(fields["slot"], fields["rotations"], length, mask),
            temperatures=temperatures,
            key=key,
            given=Conditions(
                sum=extras[0] if fuser.sum else None, cross=extras[-1] if fuser.cross else None
            ),
        )

    def with_user(self, rows: mx.array, codes: mx.array) -> mx.array:
        """Rows [n_q] with those of the user's codes [user_q] where they are LATER."""
        config = self.lm.config
        first = np.arange(config.dep_q, config.n_q, dtype=np.int32) * (config.card + 1)
        late = mx.concatenate([mx.zeros(config.dep_q, mx.int32), codes + mx.array(first)])
        return mx.where(rows == LATER, late, rows)

    def warm_up(self, held: Held, user_later: bool) -> None:
        """Trace and run once at every slice length."""
        tokens = np.zeros(1 + self.lm.config.n_q, np.int32)
        user = mx.zeros(self.lm.config.user_q, mx.int32) if user_later else None
        steps = [length - 2 for length in self.lengths if length >= 2] + [self.context - 1]
        forced = (NO_INPUT,) * self.lm.forced_texts
        for step in sorted(set(steps)):
            drawn, _ = self(Frame(tokens, user, step, seed=0, forced_text=forced), held)
            mx.eval(drawn, held.buffers.arrays())


class FrameFunctions:
    """The step of one model for each way of sampling, made on first use; the oldest ones go."""

    def __init__(self, lm: FrameModel) -> None:
        self._lm = lm
        self._made: dict[tuple[Draws, bool], FrameFunction] = {}

    def of(self, draws: Draws, compiled: bool = True) -> FrameFunction:
        """The function for these two samplers, which are compared as they compare themselves."""
        kind = (draws, compiled)
        if kind not in self._made:
            if len(self._made) >= FUNCTIONS_KEPT:  # settings not used again must not pile up
                self._made.pop(next(iter(self._made)))
            self._made[kind] = FrameFunction(self._lm, draws, compiled)
        return self._made[kind]
