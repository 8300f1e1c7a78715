"""What the self-test found: lines of a screen, and a document to be attached to a report."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ..doctor.report import machine
from ..machine.facts import Facts
from .child import to_json
from .part import FAILED, NOT_HERE, OFF, OK, PartResult

SCHEMA, SCHEMA_VERSION = "moshi-selftest", 1
COLOURS = {OK: "green", OFF: "red", FAILED: "red", NOT_HERE: "yellow"}
NAME_WIDTH = 28


def line_of(result: PartResult) -> Text:
    """One part: ok or not, and by how much."""
    line = Text(f"{result.status:>8}  ", COLOURS[result.status])
    line.append(f"{result.name:<{NAME_WIDTH}}", "bold")
    line.append(f"{result.seconds:5.1f} s  ", "dim")
    worst = result.worst
    if result.why:
        line.append(result.why)
    elif worst is not None and worst.allowed:
        line.append(f"{worst.off:.1e} of {worst.allowed:.0e}  ")
        line.append(worst.what, "dim")
    elif worst is not None:
        line.append("equal" if worst.ok else f"{worst.off:.2%} differ: {worst.what}")
    for note in result.notes:
        line.append(f"{'; ' if worst or result.why else ''}{note}")
    return line


def show(results: Sequence[PartResult], facts: Facts, console: Console) -> None:
    """The end of the table: what it means, and what to do about parts that are wrong."""
    wrong = [result for result in results if result.wrong]
    seconds = sum(result.seconds for result in results)
    where = f"{facts.mlx.backend or 'no device'}, mlx {facts.mlx.version}"
    console.print()
    if not wrong:
        told = f"{len(results)} of {len(results)} parts compute what they should ({where})"
        console.print(Text(f"{told}, in {seconds:.0f} s.", "bold green"))
        return
    console.print(Text(f"{len(wrong)} of {len(results)} parts are wrong ({where}).", "bold red"))
    console.print("The first one is the cause, most likely: later parts build on it. Instead of")
    for result in wrong:
        console.print(Text(f"  {result.name:<{NAME_WIDTH}}take {result.fallback.advice}"))


def as_json(results: Sequence[PartResult], facts: Facts) -> dict[str, Any]:
    """No names and no paths: of the machine what the doctor's report has."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "ok": not any(result.wrong for result in results),
        "seconds": sum(result.seconds for result in results),
        "machine": machine(facts),
        "parts": [part_json(result) for result in results],
    }


def part_json(result: PartResult) -> dict[str, Any]:
    row = to_json(result)
    return {**row, "fallback": row["fallback"]["advice"] if result.wrong else None}
