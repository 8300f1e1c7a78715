"""Sides that take turns every few frames, so that what else the machine does hits all of them."""

from statistics import median
from typing import Any

from worker import Worker

TURN = 3


def compared(
    sides: dict[str, tuple[Worker, str]], runs: int, frames: int
) -> dict[str, list[float]]:
    """Each side's median milliseconds of each run; sides take turns every few frames."""
    medians: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        took: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(-(-frames // TURN)):
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                worker, method = sides[name]
                took[name] += worker(method, TURN)
        for name, times in took.items():
            medians[name].append(median(times))
    return medians


def ratio(ours: list[float], theirs: list[float], each: int = 1) -> dict[str, Any]:
    """Of `ours`, each frame for so many, to `theirs`: medians, and the ratio of every run."""
    ratios = [a / each / b for a, b in zip(ours, theirs, strict=True)]
    return {
        **{"ours_ms": round(median(ours) / each, 2), "theirs_ms": round(median(theirs), 2)},
        **{"ratio": round(median(ratios), 3), "ratios": [round(r, 3) for r in ratios]},
    }


def told(name: str, row: dict[str, Any]) -> None:
    print(
        f"{name:<36} {row['ours_ms']:8.2f} ms against {row['theirs_ms']:8.2f} ms: "
        f"{row['ratio']:.2f} (runs {min(row['ratios']):.2f} to {max(row['ratios']):.2f})",
        flush=True,
    )
