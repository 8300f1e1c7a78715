"""Several conversations in one pass over the weights, which join and leave at any frame.

A step is bound by the memory that its weights are read from: four conversations cost little more
than one. Each has slots of its own in the rings, its own position, seed and temperatures; one that
joins starts at position 0 while the others go on, and what its slots held before is masked.
Shapes: B conversations, R rows (2 B with guidance, those without conditions last).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import mlx.core as mx
import numpy as np

from ..errors import MoshiError
from .buffers import Buffers, Conditions
from .compiled_step import FrameModel, Held, HostFrame, scales_of
from .conversation import Forced, LmConversation, Step, wanted_tokens
from .options import BatchOptions, ConversationOptions
from .sampling import samplers
from .state.beginning import Beginning, begin, resume, state_of
from .state.past import LmState
from .step_inputs import Layout


class BatchGenerator:
    """B conversations with one model, stepped together; made by `Lm.generator(batch=B)`."""

    def __init__(
        self,
        lm: FrameModel,
        batch: int,
        seed: int | Sequence[int | None] | None = None,
        **options: Unpack[BatchOptions],
    ) -> None:
        """All of them begin at once; options as in `BatchOptions`. Raises MoshiError."""
        if type(batch) is not int or batch < 1:
            raise MoshiError(f"batch must be a whole number from 1 up, not {batch!r}")
        self.lm, self.batch = lm, batch
        kv_bits = options.pop("kv_bits", None)
        self.kv_bits = lm.kv_bits if kv_bits is None else kv_bits
        self._draws, self._compiled = options.pop("draws", None), options.pop("compiled", True)
        self._options = [of_slot(options, i, batch) for i in range(batch)]
        seeds = [of_slot({"seed": seed}, i, batch)["seed"] for i in range(batch)]
        begun = [self._begin(one, own) for one, own in zip(seeds, self._options, strict=True)]
        self._last = [each.talk for each in begun]  # of each slot, also after it has left
        self._talks: list[LmConversation | None] = [*self._last]
        first = self._last[0].guidance
        self._layout = Layout(batch, first is not None, first is None or not first.no_text)
        self._check_alike()
        self._held = Held(
            scales=scales_of(self._last),
            given=in_rows([each.given for each in begun], self._layout),
            buffers=lm.new_buffers(self.kv_bits, self._layout.rows),
        )
        mx.eval(self._held.given.arrays())  # for whatever thread the conversations are held on
        self._frame = self._function()
        self._begun: dict[int, Beginning] = {}  # before the first step
        self._stepped = False
        for slot, each in enumerate(begun):
            self._fill(slot, each)

    def __repr__(self) -> str:
        return f"<BatchGenerator: {self.batch} slots, frames so far {self.steps}>"

    @property
    def buffers(self) -> Buffers:
        """The device memory of all conversations."""
        return self._held.buffers

    @property
    def steps(self) -> list[int | None]:
        """Frames of each conversation so far, None for an empty slot."""
        return [None if talk is None else talk.line.step for talk in self._talks]

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each conversation, None for an empty slot."""
        return [None if talk is None else talk.seed for talk in self._talks]

    def warm_up(self) -> None:
        """As `LmGenerator.warm_up`."""
        if self._frame.warm_up(self._held, self.kv_bits, user_later=False, begun=self._stepped):
            for slot, each in self._begun.items():
                each.fill(self.buffers, self._rows(slot))

    def leave(self, slot: int) -> None:
        """End a conversation; the others don't notice. Raises MoshiError for an empty slot."""
        if self._at(slot) is None:
            raise MoshiError(f"slot {slot} is empty already; nobody can leave it")
        self._talks[slot] = None

    def join(
        self, slot: int, seed: int | None = None, **options: Unpack[ConversationOptions]
    ) -> None:
        """A fresh conversation in an empty slot; options that aren't given are the slot's first.

        Raises MoshiError where somebody talks there, and for options that the others don't share
        (top-k and top-p, guidance or none, the shape of conditions).
        """
        if self._at(slot) is not None:
            raise MoshiError(f"slot {slot} holds a conversation; call leave({slot}) first")
        self._enter(slot, self._begin(seed, {**self._options[slot], **options}))

    def resume(self, slot: int, state: LmState) -> None:
        """A conversation in an empty slot that goes on from a snapshot, of a batch or alone.

        Raises MoshiError as `join` does, and for one of another model.
        """
        if self._at(slot) is not None:
            raise MoshiError(f"slot {slot} holds a conversation; call leave({slot}) first")
        if state.past.kv_bits != self.kv_bits:
            raise MoshiError(f"this conversation has kv_bits={state.past.kv_bits}; so must a batch")
        self._enter(slot, resume(self.lm, state, self._draws))

    def snapshot(self, slot: int) -> LmState:
        """One of the conversations, as `LmGenerator.snapshot`. Raises MoshiError for none."""
        talk = self._at(slot)
        if talk is None:
            raise MoshiError(f"slot {slot} is empty; there is nobody to take a snapshot of")
        own = self._draws is not None
        return state_of(talk, self._held, self.lm, self._rows(slot), self.kv_bits, own)

    def step(
        self, user_codes: Any, forced: Sequence[Forced | None] | None = None
    ) -> list[Step | None]:
        """One frame of all: the users' codes, int [B, user_q] with -1 for no input -> their Steps.

        None for an empty slot, whose codes are ignored. Raises MoshiError for codes of another
        shape or outside the vocabulary.
        """
        config = self.lm.config
        if np.shape(user_codes)[:1] != (self.batch,):
            raise MoshiError(
                f"user codes must have the shape [{self.batch}, {config.user_q}], "
                f"not {list(np.shape(user_codes))}"
            )
        if forced is not None and len(forced) != self.batch:
            raise MoshiError(f"forced tokens are for {self.batch} conversations, a list of so many")
        each = enumerate(self._talks)
        known = [None if t is None else t.user_codes(user_codes[i]) for i, t in each]
        tokens = [forced[i] if forced else None for i in range(self.batch)]
        wanted = [
            wanted_tokens(one, config) if talk is None else talk.wanted(one)
            for talk, one in zip(self._talks, tokens, strict=True)
        ]
        frame = self._inputs(known, wanted)
        if frame is None:
            return [None] * self.batch
        self._begun, self._stepped = {}, True
        drawn, extra = self._frame(frame, self._held)
        mx.eval(drawn, [] if extra is None else extra)
        tokens = np.array(drawn).astype(np.int32).reshape(-1, self.batch)
        heads = None
        if extra is not None:
            heads = np.array(extra).reshape(-1, self._layout.rows, extra.shape[-1])
        return [
            None
            if talk is None
            else talk.take(tokens[:, i], wanted[i], None if heads is None else heads[:, i])
            for i, talk in enumerate(self._talks)
        ]

    def _inputs(
        self, known: Sequence[np.ndarray | None], wanted: Sequence[np.ndarray]
    ) -> HostFrame | None:
        """The step on the host; None where nobody talks. An empty slot does as one that talks."""
        tokens = [
            None if talk is None else talk.inputs(codes)
            for talk, codes in zip(self._talks, known, strict=True)
        ]
        filler = next((i for i, talk in enumerate(self._talks) if talk is not None), None)
        if filler is None:
            return None
        whose = [filler if talk is None else i for i, talk in enumerate(self._talks)]
        talks = [self._talks[i] for i in whose]
        rows = np.stack([tokens[i] for i in whose], axis=1)  # type: ignore[arg-type]
        return HostFrame(
            tokens=rows.reshape(-1, rows.shape[-1]),
            user=None,
            steps=np.array([talk.line.step for talk in talks if talk is not None]),
            seeds=np.array([talk.seed for talk in talks if talk is not None]),
            pinned=np.array([talk.pinned for talk in talks if talk is not None]),
            forced_text=np.array([tokens[0] for tokens in wanted]),
        )

    def _begin(self, seed: int | None, options: Mapping[str, Any]) -> Beginning:
        return begin(self.lm, seed, self.kv_bits, options)

    def _enter(self, slot: int, begun: Beginning) -> None:
        """Let a conversation begin in an empty slot, or leave all as it is. Raises MoshiError."""
        before, self._last[slot] = self._last[slot], begun.talk
        try:
            self._check_alike()
            function = self._function()
            given = with_rows(self._held.given, self._rows(slot), begun.given)
        except MoshiError:
            self._last[slot] = before
            raise
        self._held.given, self._held.scales = given, scales_of(self._last)
        self._frame, self._talks[slot] = function, begun.talk
        self._fill(slot, begun)

    def _fill(self, slot: int, begun: Beginning) -> None:
        """Give a conversation what it begins with."""
        begun.fill(self.buffers, self._rows(slot))
        if not self._stepped:
            self._begun[slot] = begun

    def _rows(self, slot: int) -> list[int]:
        """A conversation's rows of a step."""
        return [slot + start for start in range(0, self._layout.rows, self.batch)]

    def _at(self, slot: int) -> LmConversation | None:
        if type(slot) is not int or not 0 <= slot < self.batch:
            raise MoshiError(f"there is no slot {slot!r}; they are 0 to {self.batch - 1}")
        return self._talks[slot]

    def _check_alike(self) -> None:
        kinds = {(t.guidance is None, t.guidance and t.guidance.no_text) for t in self._last}
        if len(kinds) > 1 or kinds != {(not self._layout.guided, self._no_text)}:
            raise MoshiError("conversations of a batch are all guided, and in one way, or none is")

    @property
    def _no_text(self) -> bool | None:
        return not self._layout.guides_text if self._layout.guided else None

    def _function(self) -> Any:
        draws = self._draws or samplers(*(talk.sampling for talk in self._last))
        return self.lm.functions.of(draws, self._layout, self._compiled)


def of_slot(options: Mapping[str, Any], slot: int, batch: int) -> dict[str, Any]:
    """What of sequences is one slot's; other values hold for all. Raises MoshiError."""
    found = {}
    for name, value in options.items():
        if isinstance(value, list | tuple | np.ndarray):
            if len(value) != batch:
                raise MoshiError(f"{name} has {len(value)} values for a batch of {batch}")
            value = value[slot]
        found[name] = value.item() if isinstance(value, np.generic) else value
    return found


def in_rows(each: Sequence[Conditions], layout: Layout) -> Conditions:
    """Conditions of each conversation -> those of a step's rows. Raises MoshiError."""

    def joined(arrays: Sequence[mx.array]) -> mx.array:
        if len({array.shape[1:] for array in arrays}) > 1:
            raise MoshiError("conversations of a batch need conditions of one length; pad them")
        pairs = mx.stack(list(arrays), axis=1)  # [1 or 2, B, ...]
        return pairs.reshape(layout.rows, *pairs.shape[2:])

    arrays = [joined(same) for same in zip(*(c.arrays() for c in each), strict=True)]
    return Conditions.of_arrays(arrays, summed=each[0].sum is not None)


def with_rows(given: Conditions, rows: Sequence[int], new: Conditions) -> Conditions:
    """Conditions with those of one conversation in its rows. Raises MoshiError."""

    def put(whole: mx.array, part: mx.array) -> mx.array:
        if whole.shape[1:] != part.shape[1:]:
            raise MoshiError("conversations of a batch need conditions of one length; pad them")
        whole = whole + 0  # the others' array stays as it is until the step has it
        whole[mx.array(list(rows))] = part
        return whole

    arrays = [put(*pair) for pair in zip(given.arrays(), new.arrays(), strict=True)]
    return Conditions.of_arrays(arrays, summed=given.sum is not None)
