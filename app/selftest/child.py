"""Run as a process of its own: a line of JSON as each part begins, and one with what it found.

A GPU that goes wrong may end the process that uses it (MLX aborts on Metal's errors), or never
answer; the table must come all the same.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from moshi_mlx.backend.precision import exact_float32

from .part import Deviation, Fallback, PartResult


def to_json(result: PartResult) -> dict[str, Any]:
    """For the line, and for the report: infinities and NaN as text."""
    row = asdict(result)
    if result.worst is not None:
        off = result.worst.off
        row["worst"]["off"] = off if off - off == 0 else str(off)
    return row


def from_json(row: dict[str, Any]) -> PartResult:
    worst = row["worst"]
    if worst is not None:
        worst = Deviation(**{**worst, "off": float(worst["off"])})
    fallback = Fallback(**row["fallback"])
    lists = {name: tuple(row[name]) for name in ("notes", "gains")}
    return PartResult(**{**row, **lists, "worst": worst, "fallback": fallback})


def main(names: Sequence[str]) -> None:
    """Every part of these names, in the order of the table."""
    exact_float32()  # for this process and those that parts start
    from .examine import examine
    from .site import Site
    from .table import parts

    site = Site.here()
    for part in parts():
        if part.name in names:
            tell({"begins": part.name})
            tell({"result": to_json(examine(part, site))})


def tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
