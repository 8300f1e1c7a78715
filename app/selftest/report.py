"""What the self-test found: lines of a screen, and a document to be attached to a report."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ..doctor.report import machine
from ..machine.facts import Facts
from .child import to_json
from .part import FAILED, NOT_HERE, OFF, OK, Deviation, PartResult

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
    elif worst is not None:
        line.append(amount(worst))
        line.append(f"  {worst.what}", "dim")
    told = "; ".join(result.notes)
    line.append(f"; {told}" if told and (worst or result.why) else told)
    return line


def amount(found: Deviation) -> str:
    """How far it is off."""
    if found.unit:
        return f"{found.off:.3g} of {found.allowed:.3g} {found.unit}"
    if found.allowed:
        return f"{found.off:.1e} of {found.allowed:.0e}"
    return "equal" if found.ok else f"{found.off:.2%} differ"


def show(
    results: Sequence[PartResult],
    where: str,
    console: Console,
    right: str = "compute what they should",
) -> None:
    """The end of the table: what it means, and what to do about parts that are wrong.

    `where`: what was tested; `right`: what parts do that are right.
    """
    wrong = [result for result in results if result.wrong]
    seconds = sum(result.seconds for result in results)
    console.print()
    if not wrong:
        absent = sum(result.status == NOT_HERE for result in results)
        told = f"{len(results) - absent} parts {right} ({where}, {seconds:.0f} s)"
        others = f", {absent} could not be looked at" if absent else ""
        console.print(Text(f"{told}{others}.", "bold green"))
        return
    console.print(Text(f"{len(wrong)} of {len(results)} parts are wrong ({where}).", "bold red"))
    console.print("The first one is the cause, most likely: later parts build on it. Instead of")
    for result in wrong:
        console.print(Text(f"  {result.name:<{NAME_WIDTH}}take {result.fallback.advice}"))


def device_of(facts: Facts) -> str:
    return f"{facts.mlx.backend or 'no device'}, mlx {facts.mlx.version}"


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
