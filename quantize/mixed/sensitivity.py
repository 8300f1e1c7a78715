"""What each unit costs when it alone is quantized: KL divergence of text and audio logits.

All cases ("this unit in this format") walk through the layers together, so each layer is read once
for as many cases as the memory holds. Rounding to the nearest; teacher forced.
Shapes: N cases and the original before them, T steps, S depth slices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.formats import dequantize
from moshi_mlx.weights.recipes import Format, fitting

from ..calibrated.streamed_lm import Result, Stage, StreamedLm, Tokens
from ..checkpoint.entries import Entry
from ..recipe.rounding import nearest
from .divergence import kl_divergence
from .units import CHOICES, UNMEASURED, Unit

STATE_BYTES = 1_000_000_000  # hidden states of all cases of one walk
BATCH = 16  # cases that a layer runs at once


@dataclass
class Case:
    """One unit in one format. `by_stream`: KL in nats a token, text first, then own codebooks."""

    unit: Unit
    chosen: Format
    by_stream: list[float]

    @property
    def kl(self) -> float:
        """Harm a frame in nats: its codes, and its text token counted as often as there are codes,
        lest the words go under in them."""
        text, *audio = self.by_stream
        return text * max(1, len(audio)) + sum(audio)

    def to_json(self) -> dict[str, Any]:
        text, *audio = self.by_stream
        return {"bits": self.chosen.bits, "text_kl": text, "audio_kl": audio}

    def replace(self, entry: Entry, weight: mx.array) -> mx.array:
        """The unit's matrices as the format holds them, others as they are."""
        chosen = fitting(self.chosen, entry.shape[1])
        if chosen is None or entry not in self.unit.entries:
            return weight
        return dequantize(nearest(entry.module, weight, chosen), chosen)


def measure(
    streamed: StreamedLm,
    units: Sequence[Unit],
    sequences: Sequence[Tokens],
    choices: Sequence[Format] = CHOICES,
    progress: Callable[[int, int], object] = lambda done, total: None,
    state_bytes: int = STATE_BYTES,
) -> list[Case]:
    """A case for every unit that logits depend on, in every format.

    `progress(done, total)` counts the stages that cases have gone through.
    Raises WeightsError for damaged source tensors.
    """
    cases = [
        Case(unit, chosen, [0.0] * (1 + streamed.config.dep_q))
        for unit in units
        if unit.name not in UNMEASURED
        for chosen in choices
    ]
    steps = sum(tokens.inputs.shape[2] for tokens in sequences)
    at_once = max(1, state_bytes // (4 * steps * _widest(streamed)))
    total = len(cases) * len(list(streamed.stages()))
    for start in range(0, len(cases), at_once):
        wave = cases[start : start + at_once]
        for _ in _Walk(streamed, wave, sequences).stages():
            progress(len(wave), total)
    return cases


def _widest(streamed: StreamedLm) -> int:
    config = streamed.config
    depth = config.depth.transformer.dim * config.dep_q if config.depth else 0
    return max(config.transformer.dim, depth)


class _Walk:
    """Some cases through all stages. A case is born in the stage that first touches its unit;
    until then its state is the original's."""

    def __init__(
        self, streamed: StreamedLm, cases: Sequence[Case], sequences: Sequence[Tokens]
    ) -> None:
        self.streamed, self.cases, self.sequences = streamed, cases, sequences
        self.original = [mx.zeros(0)] * len(sequences)  # a sequence each
        self.states: dict[int, list[mx.array]] = {}  # case -> the same

    def stages(self) -> Iterator[Stage]:
        """Each stage when all cases are through it."""
        for stage in self.streamed.stages():
            self.streamed.load(stage)
            touched = {i: names for i, c in enumerate(self.cases) if (names := self._of(c, stage))}
            plain = [i for i in self.states if i not in touched]
            before = self.original
            results = [stage.run(x, t) for x, t in zip(before, self.sequences, strict=True)]
            self.original = [result.hidden for result in results]
            mx.eval(self.original, [r.logits for r in results if r.logits is not None])
            for start in range(0, len(plain), BATCH):
                self._batch(stage, plain[start : start + BATCH], results)
            for i, names in touched.items():
                self.states.setdefault(i, list(before))
                replaced = self._exchange(names, self.cases[i])
                self._batch(stage, [i], results)
                self._put(replaced)
            self.streamed.release(stage)
            yield stage

    def _of(self, case: Case, stage: Stage) -> list[str]:
        """The stage's parameters that hold matrices of the case's unit."""
        return [
            name
            for name, entries in self.streamed.members.items()
            if name.startswith(stage.prefixes) and set(entries) & set(case.unit.entries)
        ]

    def _exchange(self, names: Sequence[str], case: Case) -> dict[str, mx.array]:
        """Put the case's weights in place; returns the original ones."""
        before = {name: self.streamed.module(name).weight for name in names}
        members = self.streamed.members
        self._put({n: self.streamed.read(n, members[n], case.replace) for n in names})
        return before

    def _put(self, weights: dict[str, mx.array]) -> None:
        for name, weight in weights.items():
            self.streamed.module(name).weight = weight

    def _batch(self, stage: Stage, cases: Sequence[int], originals: Sequence[Result]) -> None:
        """Some cases through a stage, as the layers are now."""
        for s, tokens in enumerate(self.sequences):
            result = stage.run(mx.concatenate([self.states[i][s] for i in cases]), tokens)
            parts = mx.split(result.hidden, len(cases))
            mx.eval(parts)
            for i, part in zip(cases, parts, strict=True):
                self.states[i][s] = part
            original = originals[s].logits
            if original is not None and result.logits is not None:
                self._add(cases, kl_divergence(original, result.logits), result.first)

    def _add(self, cases: Sequence[int], kl: mx.array, first: int) -> None:
        """KL [N, T, K] of one sequence into the cases' means; delayed streams start later."""
        config = self.streamed.config
        found = np.array(kl)
        for k in range(found.shape[2]):
            delay, stream = config.delays[first + k], first + k
            frames = sum(t.inputs.shape[2] - delay for t in self.sequences)
            for i, total in zip(cases, found[:, delay:, k].sum(axis=1) / frames, strict=True):
                self.cases[i].by_stream[stream] += float(total)
