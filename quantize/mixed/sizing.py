"""`--target-gb` and `--target-bits`: the mixed recipe that fits, from measured sensitivity."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from moshi_mlx.weights.recipes import Format, Recipe, format_to_json

from ..calibrated.calibration import Calibration
from ..checkpoint.plan import all_slots, make_plan
from ..checkpoint.target import metadata_of, provenance
from ..checkpoint.writer import header_of
from ..errors import QuantizeError
from .choice import choose, recipe_of
from .sensitivity import Case, measure
from .units import CHOICES, Unit, units_of

TRIES = 20


@dataclass(frozen=True)
class Goal:
    """Gigabytes (1e9 bytes) of the weight file, or bits per weight, as `bits_per_weight` counts."""

    gb: float | None = None
    bits: float | None = None

    def __str__(self) -> str:
        return f"{self.gb:g} GB" if self.gb is not None else f"{self.bits:g} bits"


@dataclass(frozen=True)
class Choice:
    """The recipe and what it rests on."""

    recipe: Recipe
    cases: list[Case]

    def __str__(self) -> str:
        """The patterns of each number of bits, a line each."""
        by_bits: dict[str, list[str]] = {}
        for pattern, chosen in self.recipe.rules:
            by_bits.setdefault(str(chosen), []).append(pattern)
        return "\n".join(f"  {bits}: {', '.join(by_bits[bits])}" for bits in sorted(by_bits))

    def papers(self) -> dict[str, str]:
        """Files for the target: the recipe, fit for --recipe, and the measured sensitivities."""
        rules = {pattern: format_to_json(chosen) for pattern, chosen in self.recipe.rules}
        units: dict[str, list[dict[str, Any]]] = {}
        for case in self.cases:
            units.setdefault(case.unit.name, []).append(case.to_json())
        return {
            "recipe.json": json.dumps(rules, indent=1) + "\n",
            "sensitivity.json": json.dumps(units, indent=1) + "\n",
        }


def choose_recipe(
    calibration: Calibration, goal: Goal, progress: Callable[[int, int], object]
) -> Choice:
    """Measure every unit, then choose; `progress(done, total)` as in `measure`.

    Raises QuantizeError for a goal out of reach, before anything is measured.
    """
    units = units_of(calibration.entries(), calibration.config)
    sizes = _Sizes(calibration, goal)
    smallest, largest = (sizes.of(_uniform(units, which)) for which in (CHOICES[0], CHOICES[-1]))
    if sizes.wanted < smallest:
        raise QuantizeError(f"{goal} can't be reached: {sizes.named(smallest)} are the least")
    if sizes.wanted > largest:
        raise QuantizeError(
            f"{goal} are more than the largest choice needs, {sizes.named(largest)}: "
            "take --recipe q8"
        )
    cases = measure(calibration.streamed(), units, calibration.tokens(), progress=progress)
    return Choice(_fitting(units, cases, sizes), cases)


class _Sizes:
    """Bytes of what a recipe makes: of the whole file for gigabytes, of its tensors for bits."""

    def __init__(self, calibration: Calibration, goal: Goal) -> None:
        self.checkpoint, self.label = calibration.checkpoint, calibration.label
        self.entries, self.goal = calibration.entries(), goal
        self.num_weights = sum(prod(entry.shape) for entry in self.entries)

    @property
    def wanted(self) -> float:
        if self.goal.gb is not None:
            return self.goal.gb * 1e9
        assert self.goal.bits is not None
        return self.goal.bits * self.num_weights / 8

    def of(self, recipe: Recipe) -> int:
        plan = make_plan(self.entries, recipe)
        tensors = sum(planned.num_bytes for planned in plan)
        if self.goal.gb is None:
            return tensors
        made_by = provenance(self.checkpoint, recipe, self.label)
        return tensors + len(header_of(all_slots(plan), metadata_of(self.checkpoint, made_by)))

    def named(self, size: int) -> str:
        """Such a size in the goal's unit."""
        if self.goal.gb is not None:
            return f"{size / 1e9:.5g} GB"
        return f"{8 * size / self.num_weights:.3f} bits"


def _fitting(units: list[Unit], cases: list[Case], sizes: _Sizes) -> Recipe:
    """The choice whose file is no larger than wanted; headers differ, so it may take some tries."""
    name = f"fit-{sizes.goal}".replace(" ", "-")
    smallest = {unit.name: CHOICES[0] for unit in units}
    least = sum(unit.num_bytes(CHOICES[0]) for unit in units)
    budget = sizes.wanted - (sizes.of(recipe_of(name, units, smallest)) - least)
    for _ in range(TRIES):
        recipe = recipe_of(name, units, choose(units, cases, max(budget, least)))
        if (over := sizes.of(recipe) - sizes.wanted) <= 0:
            return recipe
        budget -= over
    return recipe_of(name, units, smallest)


def _uniform(units: list[Unit], chosen: Format) -> Recipe:
    return recipe_of("uniform", units, {unit.name: chosen for unit in units})
