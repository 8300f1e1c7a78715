"""A mixed recipe of a given size with the least harm that was measured."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from moshi_mlx.weights.recipes import Format, Recipe

from ..errors import QuantizeError
from .sensitivity import Case
from .units import CHOICES, Unit

Chosen = dict[str, Format]  # unit's name -> its format


def choose(units: Sequence[Unit], cases: Sequence[Case], budget_bytes: float) -> Chosen:
    """A format for every unit, together at most `budget_bytes`, with little KL in sum.

    KL of units is taken to add up. Greedy: every unit starts with the fewest bits, and the step
    that saves most KL a byte is taken as long as it fits. A uniform choice is taken if it is
    better. Units without cases have the most bits. Raises QuantizeError when nothing is so small.
    """
    kl: dict[str, dict[Format, float]] = defaultdict(dict)
    for case in cases:
        kl[case.unit.name][case.chosen] = case.kl
    by_name = {unit.name: unit for unit in units}
    fixed = {name: CHOICES[-1] for name in by_name if name not in kl}
    found = {name: min(kl[name], key=by_name[name].num_bytes) for name in kl} | fixed
    left = budget_bytes - _bytes(by_name, found)
    if left < 0:
        raise QuantizeError(f"{-left:.0f} bytes too many")
    while (step := _best_step(by_name, kl, found, left)) is not None:
        name, chosen = step
        left -= by_name[name].num_bytes(chosen) - by_name[name].num_bytes(found[name])
        found[name] = chosen
    uniform = [{name: chosen for name in kl} | fixed for chosen in CHOICES]
    possible = [c for c in uniform if _bytes(by_name, c) <= budget_bytes and _known(kl, c)]
    return min([found, *possible], key=lambda chosen: _harm(kl, chosen))


def _best_step(
    units: Mapping[str, Unit],
    kl: Mapping[str, Mapping[Format, float]],
    found: Chosen,
    left: float,
) -> tuple[str, Format] | None:
    best, best_gain = None, 0.0
    for name, costs in kl.items():
        unit, now = units[name], found[name]
        for chosen, cost in costs.items():
            more = unit.num_bytes(chosen) - unit.num_bytes(now)
            if 0 < more <= left and (gain := (costs[now] - cost) / more) > best_gain:
                best, best_gain = (name, chosen), gain
    return best


def _bytes(units: Mapping[str, Unit], chosen: Chosen) -> int:
    return sum(units[name].num_bytes(one) for name, one in chosen.items())


def _known(kl: Mapping[str, Mapping[Format, float]], chosen: Chosen) -> bool:
    return all(chosen[name] in costs for name, costs in kl.items())


def _harm(kl: Mapping[str, Mapping[Format, float]], chosen: Chosen) -> float:
    return sum(costs[chosen[name]] for name, costs in kl.items())


def recipe_of(name: str, units: Sequence[Unit], chosen: Chosen) -> Recipe:
    """The rules: a unit's patterns fit no other unit's matrices."""
    return Recipe(
        name, tuple((pattern, chosen[unit.name]) for unit in units for pattern in unit.patterns)
    )
