"""What `--calibrate` gained: the talk of the calibrated model and of one rounded to the nearest.

Both walk with the original through its layers, stage by stage, so that memory holds one layer and
the hidden states. On the very recordings that were calibrated on; others need `quantize report`.
Shapes: T steps, K streams, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.formats import dequantize

from ..calibrated.calibration import Calibration
from ..calibrated.streamed_lm import Replace, Result, StreamedLm, Tokens
from ..checkpoint.entries import Entry
from ..checkpoint.plan import Planned
from ..mixed.divergence import kl_divergence
from ..recipe.rounding import nearest
from .weight_error import restored, tensors_of

MOST_FRAMES = 1000  # 80 s say enough, and cost three passes through the model


@dataclass(frozen=True)
class Cost:
    """Against the original: KL in nats a token, and the share of equal choices."""

    text_kl: float
    codes_kl: float
    text_alike: float
    codes_alike: float


@dataclass(frozen=True)
class Gain:
    """`codes`: whether the model has any; `frames`: that were looked at."""

    frames: int
    plain: Cost
    calibrated: Cost
    codes: bool

    def __str__(self) -> str:
        before, after = self.plain, self.calibrated
        kl = f"KL {before.text_kl:.4f} -> {after.text_kl:.4f} nats a text token"
        alike = f"equal choices {before.text_alike:.1%} -> {after.text_alike:.1%} of the text"
        if self.codes:
            kl += f", {before.codes_kl:.4f} -> {after.codes_kl:.4f} a code"
            alike += f", {before.codes_alike:.1%} -> {after.codes_alike:.1%} of the codes"
        where = f"on {self.frames} frames of what it was calibrated on"
        return f"calibration against plain rounding, {where}:\n{kl}\n{alike}"


def gain_of(
    calibration: Calibration,
    plan: Sequence[Planned],
    folder: Path,
    progress: Callable[[int], object] = lambda frames: None,
) -> Gain:
    """`folder`: what calibration made of the plan. `progress`: frames that a stage is through."""
    tensors = tensors_of(folder, calibration.checkpoint)
    chosen = {planned.entry.name: planned.chosen for planned in plan}

    def plainly(entry: Entry, weight: mx.array) -> mx.array:
        to = chosen[entry.name]
        return weight if to is None else dequantize(nearest(entry.module, weight, to), to)

    def as_made(entry: Entry, weight: mx.array) -> mx.array:
        return restored(entry, tensors, folder)[0]

    sequences = shortened(calibration.tokens(), MOST_FRAMES)
    totals = [Total(1 + calibration.config.dep_q) for _ in range(2)]
    walk(calibration.streamed(), sequences, (None, plainly, as_made), totals, progress)
    frames = sum(tokens.inputs.shape[2] for tokens in sequences)
    costs = [total.cost() for total in totals]
    return Gain(frames, *costs, codes=calibration.config.dep_q > 0)


def shortened(sequences: Sequence[Tokens], frames: int) -> list[Tokens]:
    """The first of them, so many frames in all and at least the first."""
    found: list[Tokens] = []
    for tokens in sequences:
        left = frames - sum(one.inputs.shape[2] for one in found)
        if left > 0:
            found.append(Tokens(tokens.inputs[:, :, :left], tokens.targets[:, :, :left]))
    return found


class Total:
    """Sums of one model over all sequences, for each stream: KL, equal choices, positions."""

    def __init__(self, streams: int) -> None:
        self._sums = np.zeros((streams, 3))

    def add(self, first: Result, other: Result, delays: Sequence[int]) -> None:
        """Logits [1, T, K, V] of both; a delayed stream predicts nothing at first."""
        assert first.logits is not None and other.logits is not None
        for k in range(first.logits.shape[2]):
            stream = first.first + k
            a, b = (
                r.logits[0, delays[stream] :, k] for r in (first, other) if r.logits is not None
            )
            equal = (a.argmax(axis=-1) == b.argmax(axis=-1)).sum()
            kl = kl_divergence(a, b).sum()
            self._sums[stream] += (float(kl), float(equal), a.shape[0])

    def cost(self) -> Cost:
        means = self._sums[:, :2] / np.maximum(self._sums[:, 2:], 1)
        codes = means[1:].mean(axis=0) if len(means) > 1 else np.zeros(2)
        return Cost(means[0, 0], codes[0], means[0, 1], codes[1])


def walk(
    streamed: StreamedLm,
    sequences: Sequence[Tokens],
    models: Sequence[Replace | None],
    totals: Sequence[Total],
    progress: Callable[[int], object],
) -> None:
    """All models, the original first, through all stages; `totals` are of the others."""
    states = [[mx.zeros(0)] * len(sequences) for _ in models]
    for stage in streamed.stages():
        originals: Mapping[int, Result] = {}
        for number, replace in enumerate(models):
            streamed.load(stage, replace)
            for s, tokens in enumerate(sequences):
                result = stage.run(states[number][s], tokens)
                mx.eval([x for x in (result.hidden, result.logits) if x is not None])
                states[number][s] = result.hidden
                if result.logits is None:
                    continue
                if number == 0:
                    originals = {**originals, s: result}
                else:
                    totals[number - 1].add(originals[s], result, streamed.config.delays)
            streamed.release(stage)
        progress(sum(tokens.inputs.shape[2] for tokens in sequences))
