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
from .conversation import (
    Forced,
    LmConversation,
    Step,
    check_seed,
    check_user_codes,
    guidance_from,
    wanted_tokens,
)
from .generator import OTHERS
from .options import BatchOptions, ConversationOptions
from .sampling import override, samplers
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
        made = [self._made(one, own) for one, own in zip(seeds, self._options, strict=True)]
        self._talks: list[LmConversation | None] = [talk for talk, _ in made]
        first = made[0][0].guidance
        self._layout = Layout(batch, first is not None, first is None or not first.no_text)
        self._last = [talk for talk, _ in made]  # of each slot, also after it has left
        self._check_alike()
        self._held = Held(
            scales=scales_of(self._last),
            given=in_rows([given for _, given in made], self._layout),
            buffers=lm.new_buffers(self.kv_bits, self._layout.rows),
        )
        mx.eval(self._held.given.arrays())  # for whatever thread the conversations are held on
        self._frame = self._function()

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
        begun = any(self.steps)
        self._frame.warm_up(self._held, self.kv_bits, user_later=False, begun=begun)

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
        talk, given = self._made(seed, {**self._options[slot], **options})
        before, self._last[slot] = self._last[slot], talk
        try:
            self._check_alike()
            function = self._function()
            rows = [slot + start for start in range(0, self._layout.rows, self.batch)]
            self._held.given = with_rows(self._held.given, rows, given)
        except MoshiError:
            self._last[slot] = before
            raise
        self._held.scales, self._frame = scales_of(self._last), function
        self._talks[slot] = talk

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
        wanted = [wanted_tokens(forced[i] if forced else None, config) for i in range(self.batch)]
        known = [
            None if talk is None else check_user_codes(user_codes[i], config)
            for i, talk in enumerate(self._talks)
        ]
        frame = self._inputs(known, wanted)
        if frame is None:
            return [None] * self.batch
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
            forced_text=np.array([tokens[0] for tokens in wanted]),
        )

    def _made(
        self, seed: int | None, options: Mapping[str, Any]
    ) -> tuple[LmConversation, Conditions]:
        """A fresh conversation and its conditions, in its rows."""
        config = self.lm.config
        others = {name: options.get(name) for name in OTHERS}
        sampling = override(config.sampling, {k: v for k, v in options.items() if k not in OTHERS})
        guidance = guidance_from(config, others)
        given = self.lm.conditions(others["conditions"], guidance is not None, others["negatives"])
        return LmConversation(config, check_seed(seed), sampling, guidance), given

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
