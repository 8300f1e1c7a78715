"""The step of a frame as a function of plain arrays: traced once per cache length, compiled."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ..backend.compiler import can_compile
from ..config.lm_config import NO_INPUT, LmConfig, SamplingConfig
from .buffers import Buffers, Conditions
from .delay_line import LATER
from .kv_ring import Position, Ring, lengths
from .sampling import Sampler, samplers


class FrameModel(Protocol):
    """What a conversation needs of its language model: `lm.model.Lm` is one."""

    config: LmConfig
    kv_bits: int

    def conditions(self, values: Mapping[str, Any] | None) -> Conditions: ...
    def new_buffers(self, kv_bits: int | None = None) -> Buffers: ...
    def step(
        self,
        text: mx.array,
        rows: mx.array,
        forced_text: mx.array,
        buffers: Buffers,
        at: Position,
        samplers: tuple[Sampler, Sampler],
        temperatures: mx.array,
        key: mx.array,
        given: Conditions,
    ) -> tuple[mx.array, mx.array | None]: ...


class FrameFunction:
    """Calls of `Lm.step` for one model and one way of sampling; shared by its conversations.

    Temperatures are inputs: another one needs no other function. `warm` holds what was traced.
    """

    def __init__(self, lm: FrameModel, ways: tuple[Sampler, Sampler]) -> None:
        self.lm, self.samplers = lm, ways
        context = lm.config.transformer.context
        assert context is not None
        self.context, self.lengths = context, lengths(context)
        self.compiled: dict[tuple[int, bool], Callable] = {}
        self.warm: set[tuple] = set()

    @classmethod
    def of(cls, lm: FrameModel, sampling: SamplingConfig) -> "FrameFunction":
        """The function of this model for these settings, made on first use."""
        cache, ways = lm.__dict__.setdefault("_frame_functions", {}), samplers(sampling)
        if ways not in cache:
            if len(cache) >= 8:  # settings that are not used again must not pile up
                cache.pop(next(iter(cache)))
            cache[ways] = cls(lm, ways)
        return cache[ways]

    def __call__(
        self,
        tokens: np.ndarray,
        user: mx.array | None,
        step: int,
        seed: int,
        temperatures: mx.array,
        buffers: Buffers,
        given: Conditions,
        forced_text: int = NO_INPUT,
    ) -> tuple[mx.array, mx.array | None]:
        """Input tokens [1 + n_q] -> lazy tokens [1 + dep_q], extra heads [heads, D]; new buffers.

        `user`: lazy codes [user_q] for the tokens that are LATER, None where there are none.
        `forced_text`: taken for the text token that is sampled, -1 for none.
        """
        full = step + 1 >= self.context
        length = next(n for n in self.lengths if n > step % self.context or n == self.context)
        length = self.context if full else length
        call = self.traced(length, full)
        key = mx.array(np.array([seed, step], np.uint32))
        extras = [a for a in (given.sum, given.cross) if a is not None]
        drawn, extra, rings, depth = call(
            self.host_inputs(tokens, step, forced_text),
            [] if user is None else [user],
            key,
            temperatures,
            buffers.rings,
            buffers.depth,
            extras,
        )
        buffers.rings, buffers.depth = rings, depth
        return drawn, extra[0] if extra else None

    def host_inputs(self, tokens: np.ndarray, step: int, forced_text: int) -> mx.array:
        """All integers of a step in one array.

        Slot, RoPE of q, k and v, live slots, forced text, text, rows.
        """
        config = self.lm.config
        first = np.arange(config.n_q) * (config.card + 1)
        codes = tokens[1:]
        rows = np.where(codes == NO_INPUT, config.n_q * (config.card + 1), codes + first)
        rows = np.where(codes == LATER, LATER, rows)
        live_slots = min(step + 1, self.context)
        head = [step % self.context, step, step, 0, live_slots, forced_text, tokens[0]]
        return mx.array(np.concatenate([head, rows]).astype(np.int32))

    def traced(self, length: int, full: bool) -> Callable:
        """The function for one slice length, compiled where that works."""
        if (length, full) not in self.compiled:

            def call(
                ints: mx.array,
                user: list[mx.array],
                key: mx.array,
                temperatures: mx.array,
                rings: list[Ring],
                depth: list[mx.array],
                extras: list[mx.array],
            ) -> tuple[Any, ...]:
                return self.run(ints, user, key, temperatures, rings, depth, extras, length, full)

            self.compiled[length, full] = mx.compile(call) if can_compile() else call
        return self.compiled[length, full]

    def run(
        self,
        ints: mx.array,
        user: list[mx.array],
        key: mx.array,
        temperatures: mx.array,
        rings: list[Ring],
        depth: list[mx.array],
        extras: list[mx.array],
        length: int,
        full: bool,
    ) -> tuple[Any, ...]:
        """The graph of one frame."""
        slot, rotations, count, forced_text, text, rows = mx.split(ints, [1, 4, 5, 6, 7])
        if user:
            rows = self.with_user(rows, user[0])
        at = Position(
            slot=slot.reshape(1, 1, 1, 1),
            rotations=rotations,
            length=length,
            mask=None if full else (mx.arange(length) < count).reshape(1, 1, 1, length),
        )
        fuser = self.lm.config.fuser
        given = Conditions(
            sum=extras[0] if fuser.sum else None, cross=extras[-1] if fuser.cross else None
        )
        buffers = Buffers(list(rings), list(depth))
        drawn, extra = self.lm.step(
            text,
            rows,
            forced_text,
            buffers,
            at,
            self.samplers,
            temperatures,
            key,
            given,
        )
        return drawn, [] if extra is None else [extra], buffers.rings, buffers.depth

    def with_user(self, rows: mx.array, codes: mx.array) -> mx.array:
        """Rows [n_q] with those of the user's codes [user_q] where they are LATER."""
        config = self.lm.config
        first = np.arange(config.dep_q, config.n_q, dtype=np.int32) * (config.card + 1)
        late = mx.concatenate([mx.zeros(config.dep_q, mx.int32), codes + mx.array(first)])
        return mx.where(rows == LATER, late, rows)

    def warm_up(self, buffers: Buffers, given: Conditions, user_later: bool) -> None:
        """Trace and run once at every slice length."""
        tokens = np.zeros(1 + self.lm.config.n_q, np.int32)
        user = mx.zeros(self.lm.config.user_q, mx.int32) if user_later else None
        temperatures = mx.ones(2)
        steps = [length - 2 for length in self.lengths if length >= 2] + [self.context - 1]
        for step in sorted(set(steps)):
            drawn, _ = self(tokens, user, step, 0, temperatures, buffers, given)
            mx.eval(drawn, buffers.arrays())
