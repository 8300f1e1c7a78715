"""What becomes of every tensor: quantized in some format or kept, decided before anything is read.

The file's layout follows from the plan alone, so sizes are known and the disk is checked first.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from moshi_mlx.weights.recipes import Format, Recipe, fitting, quantizable

from .entries import Entry
from .writer import Slot

KEPT_DTYPE = "BF16"  # what Kyutai's files hold; fp32 and fp16 sources are rounded to it


@dataclass(frozen=True)
class Planned:
    """One target tensor. `asked`: what the recipe said; `chosen`: what the width allows."""

    entry: Entry
    asked: Format | None
    chosen: Format | None

    @property
    def slots(self) -> dict[str, Slot]:
        """The tensors it becomes in the file: itself, or weight, scales and biases."""
        entry, chosen = self.entry, self.chosen
        if chosen is None:
            return {entry.name: Slot(KEPT_DTYPE, entry.shape)}
        rows, width = entry.shape
        groups = (rows, width // chosen.group_size)
        slots = {entry.name: Slot("U32", (rows, width * chosen.bits // 32))}
        if chosen.mode != "affine":
            return slots | {f"{entry.module}.scales": Slot("U8", groups)}
        return slots | {
            f"{entry.module}.{part}": Slot(KEPT_DTYPE, groups) for part in ("scales", "biases")
        }

    @property
    def num_weights(self) -> int:
        return prod(self.entry.shape)

    @property
    def num_bytes(self) -> int:
        return sum(slot.num_bytes for slot in self.slots.values())


def make_plan(entries: Iterable[Entry], recipe: Recipe) -> list[Planned]:
    """Recipe and widths applied to every tensor, in the order of the file."""
    entries = list(entries)
    matrices, num_layers = quantizable(shapes_of(entries)), count_layers(entries)
    plan = []
    for entry in entries:
        asked = recipe.format_of(entry.module, num_layers) if entry.name in matrices else None
        plan.append(Planned(entry, asked, fitting(asked, entry.shape[-1]) if asked else None))
    return plan


def shapes_of(entries: Iterable[Entry]) -> dict[str, tuple[int, ...]]:
    return {entry.name: entry.shape for entry in entries}


def count_layers(entries: Iterable[Entry]) -> int:
    """Layers of the temporal transformer."""
    parts = (entry.name.split(".") for entry in entries)
    layers = [int(p[2]) for p in parts if p[:2] == ["transformer", "layers"]]
    return 1 + max(layers, default=-1)


def all_slots(plan: Iterable[Planned]) -> Mapping[str, Slot]:
    return {name: slot for planned in plan for name, slot in planned.slots.items()}


def bits_per_weight(plan: Iterable[Planned]) -> float:
    """Bits of the file for each weight of the model, scales and kept tensors included."""
    plan = list(plan)
    return 8 * sum(p.num_bytes for p in plan) / sum(p.num_weights for p in plan)


def fallbacks(plan: Iterable[Planned]) -> list[str]:
    """What had to differ from the recipe, one line for layers that differ alike."""
    counts = Counter(
        (re.sub(r"\d+", "*", p.entry.module), p.entry.shape[-1], p.chosen, p.asked)
        for p in plan
        if p.chosen != p.asked
    )
    return [
        f"{layers} ({count}), width {width}: {chosen or 'kept in bf16'} instead of {asked}"
        for (layers, width, chosen, asked), count in counts.items()
    ]


def unused_patterns(plan: Iterable[Planned], recipe: Recipe) -> list[str]:
    """Patterns that decide about no matrix: misspelt, or hidden behind an earlier one."""
    entries = [planned.entry for planned in plan]
    matrices, num_layers = quantizable(shapes_of(entries)), count_layers(entries)
    used = {recipe.rule_of(e.module, num_layers) for e in entries if e.name in matrices}
    return [pattern for number, (pattern, _) in enumerate(recipe.rules) if number not in used]
