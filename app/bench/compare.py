"""`moshi bench compare A.json B.json`: B against A, figure by figure, as ratios."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moshi_mlx.backend.command_buffers import CommandBuffers
from moshi_mlx.errors import MoshiError

from .document import read

# title -> where the figure lies in a run. Below 1, B is better, in all of them.
FIGURES: Mapping[str, tuple[str, ...]] = {
    "frame p50": ("frame_ms", "p50"),
    "frame p95": ("frame_ms", "p95"),
    "frame p99": ("frame_ms", "p99"),
    "frame max": ("frame_ms", "max"),
    "encode p50": ("stages_ms", "encode", "p50"),
    "lm p50": ("stages_ms", "lm", "p50"),
    "decode p50": ("stages_ms", "decode", "p50"),
    "host p50": ("stages_ms", "host", "p50"),
    "temporal": ("split_ms", "temporal_ms"),
    "depth": ("split_ms", "depth_ms"),
    "load": ("load_s",),
    "warm-up": ("warm_up_s",),
    "memory peak": ("memory", "peak_bytes"),
}
SAME = 0.03  # ratios closer to 1 than this are left without colour


def compare(first: Path, second: Path, console: Console) -> int:
    """Print the ratios of every recipe that both hold. Raises MoshiError where there is none."""
    documents = [read(path) for path in (first, second)]
    a, b = (_runs(found, path) for found, path in zip(documents, (first, second), strict=True))
    shared = [key for key in a if key in b]
    if not shared:
        mine, theirs = (", ".join(" ".join(key) for key in runs) for runs in (a, b))
        raise MoshiError(f"no model in common: {first} has {mine}, {second} has {theirs}")
    for one, two in zip(*(_ways(found) for found in documents), strict=True):
        if one != two:
            console.print(f"A: {one}; B: {two}\n")
    rows = {" ".join(key): dict(_figures(a[key], b[key])) for key in shared}
    for name, figures in rows.items():
        console.print(_table(name, figures))
        console.print()
    ratios = {
        name: {title: round(two / one, 4) for title, (one, two) in figures.items()}
        for name, figures in rows.items()
    }
    if not sys.stdout.isatty():  # for whatever reads it
        print(json.dumps({"schema": "moshi-bench-compare", "schema_version": 1, "ratios": ratios}))
    return 0


def _ways(document: Mapping[str, Any]) -> tuple[str, str, str]:
    """How MLX worked there: command buffers, compiled or not, norms. Older reports say nothing."""
    given = document.get("command_buffers")
    values = given if isinstance(given, Mapping) else {}
    buffers = CommandBuffers(values.get("operations"), values.get("megabytes"))
    fused = any(isinstance(r, Mapping) and r.get("fused_norms") for r in document["runs"])
    return (
        str(buffers),
        "compiled" if document.get("compiled", True) else "operation by operation",
        f"addition and norm in {'one kernel' if fused else 'two kernels'}",
    )


def _runs(document: Mapping[str, Any], path: Path) -> dict[tuple[str, str], Mapping[str, Any]]:
    try:
        return {(run["model"], run["recipe"]): run for run in document["runs"]}
    except (KeyError, TypeError):
        raise MoshiError(f"{path} is damaged: measure again") from None


def _figures(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[float, float]]]:
    """The figures that both runs have (an interrupted one has fewer)."""
    for title, place in FIGURES.items():
        one, two = _at(a, place), _at(b, place)
        if one and two is not None:
            yield title, (one, two)


def _at(run: Mapping[str, Any], place: tuple[str, ...]) -> float | None:
    found: Any = run
    for name in place:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) else None


def _table(name: str, figures: Mapping[str, tuple[float, float]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    table.title = Text(name, "bold")
    for head in ("", "A", "B", "B / A"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for title, (one, two) in figures.items():
        ratio = two / one
        colour = "" if abs(ratio - 1) < SAME else "green" if ratio < 1 else "red"
        table.add_row(title, _shown(title, one), _shown(title, two), Text(f"{ratio:.2f} x", colour))
    return table


def _shown(title: str, value: float) -> str:
    if title.startswith("memory"):
        return f"{value / 1e9:.2f} GB"
    return f"{value:.2f} s" if title in ("load", "warm-up") else f"{value:.2f} ms"
