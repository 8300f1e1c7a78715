"""The last whole self-test on this machine, for what starts a talk and for the doctor.

One small file of plain JSON; what is in it counts only for the same machine, system and versions
of MLX and of this program. A file that can't be read counts as none.
"""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from moshi_mlx.output.whole_file import write_text

from ..machine.readers import chip
from .part import KV_16, RUST, UNCOMPILED, Fallback, PartResult

SCHEMA_VERSION = 1
LONGEST = 200  # characters of a text in the file
TAKEN = {(f.option, f.value): f for f in (RUST, KV_16, UNCOMPILED)}


@dataclass(frozen=True)
class WrongPart:
    """A part that computed wrong, and what to take instead."""

    name: str
    fallback: Fallback


@dataclass(frozen=True)
class SelftestOutcome:
    """`when`: the day, as 2026-11-30; `right`: how many parts were; `figures`: what some told;
    `gains`: names of what is equal here and faster."""

    when: str
    right: int
    wrong: tuple[WrongPart, ...] = ()
    figures: tuple[str, ...] = ()
    gains: tuple[str, ...] = ()


def default_path() -> Path:
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "moshi" / "selftest.json"


def sound_path() -> Path:
    """Of the parts about sound (`--audio`)."""
    return default_path().with_name("selftest-audio.json")


def machine_key() -> dict[str, str]:
    """What an outcome holds for."""
    return {
        "system": f"{platform.system()} {platform.mac_ver()[0] or platform.release()}",
        "chip": chip() or platform.machine(),
        "mlx": _version("mlx"),
        "moshi_local": _version("moshi-local"),
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def outcome_of(results: Sequence[PartResult], now_s: float | None = None) -> SelftestOutcome:
    wrong = tuple(WrongPart(r.name, r.fallback) for r in results if r.wrong)
    right = sum(result.status == "ok" for result in results)
    figures = tuple(f"{r.name}: {note}"[:LONGEST] for r in results for note in r.notes)
    gains = tuple(gain for result in results if not result.wrong for gain in result.gains)
    day = time.strftime("%Y-%m-%d", time.localtime(now_s))
    return SelftestOutcome(day, right, wrong, figures, gains)


def remember(outcome: SelftestOutcome, path: Path, key: Mapping[str, str] | None = None) -> None:
    """Raises OutputError or OSError where it can't be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": SCHEMA_VERSION,
        "machine": dict(machine_key() if key is None else key),
        "when": outcome.when,
        "right": outcome.right,
        "wrong": [
            {"name": part.name, "advice": part.fallback.advice}
            | {"option": part.fallback.option, "value": part.fallback.value}
            for part in outcome.wrong
        ],
        "figures": list(outcome.figures),
        "gains": list(outcome.gains),
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def recall(
    path: Path | None = None, key: Mapping[str, str] | None = None
) -> SelftestOutcome | None:
    """The outcome for this machine as it is now; None where there is none."""
    path = default_path() if path is None else path
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return _checked(read, machine_key() if key is None else key)
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def _checked(read: Any, key: Mapping[str, str]) -> SelftestOutcome | None:
    """Raises ValueError, LookupError or TypeError for what `remember` never writes."""
    if read["schema_version"] != SCHEMA_VERSION or read["machine"] != dict(key):
        return None
    wrong = tuple(
        WrongPart(_text(part["name"]), _fallback(part["option"], part["value"], part["advice"]))
        for part in read["wrong"]
    )
    if type(read["right"]) is not int:
        raise ValueError("no number of parts")
    figures = tuple(_text(figure) for figure in read.get("figures", ()))
    gains = tuple(_text(gain) for gain in read.get("gains", ()))
    return SelftestOutcome(_text(read["when"]), read["right"], wrong, figures, gains)


def _fallback(option: Any, value: Any, advice: Any) -> Fallback:
    """One that a command knows how to take, or advice alone."""
    return TAKEN.get((option, value)) or Fallback(_text(advice))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise ValueError("no text")
    return value
