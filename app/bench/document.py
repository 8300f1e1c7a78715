"""The bench as one JSON document: schema `moshi-bench`, version 1, described in docs/bench.md."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moshi_mlx.backend.command_buffers import CommandBuffers
from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.errors import MoshiError

from ..doctor.report import machine
from ..machine.facts import Facts
from ..machine.power import brakes
from . import stats
from .floor import Bandwidth
from .measure import Run
from .runner import Plan

SCHEMA, SCHEMA_VERSION = "moshi-bench", 1


@dataclass(frozen=True)
class Bench:
    """A whole run of the command: where, how, and each model's figures."""

    facts: Facts
    plan: Plan
    bandwidth: Bandwidth
    runs: list[Run]
    command_buffers: CommandBuffers = field(default_factory=CommandBuffers)
    compiled: bool = True
    interrupted: bool = False
    failures: tuple[str, ...] = ()  # a line for each model that the device gave up on


def document(bench: Bench) -> dict[str, Any]:
    """All of it, the time of every frame included; no user name, no path."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(bench.facts),
        "command_buffers": asdict(bench.command_buffers),
        "compiled": bench.compiled,
        "slowed_by": brakes(bench.facts.power),
        "bandwidth": asdict(bench.bandwidth),
        "plan": {**asdict(bench.plan), "paced": bench.plan.paced},
        "interrupted": bench.interrupted,
        "failures": list(bench.failures),
        "runs": [run_json(run) for run in bench.runs],
    }


def summary(bench: Bench) -> dict[str, Any]:
    """The last line of stdout: the headline figures, with the names they have in the document."""
    return {
        "schema": f"{SCHEMA}-summary",
        "schema_version": SCHEMA_VERSION,
        "chip": bench.facts.chip,
        "interrupted": bench.interrupted,
        "runs": [
            {
                "model": run.subject.model,
                "recipe": run.subject.recipe,
                "p50_ms": round(run.frame.p50, 3),
                "p95_ms": round(run.frame.p95, 3),
                "floor_ms": round(run.floor.ms, 3),
                "real_time_factor": round(stats.real_time_factor(run.recording.frame_ms), 4),
                "answer": run.verdict.answer,
            }
            for run in bench.runs
        ],
    }


def run_json(run: Run) -> dict[str, Any]:
    times = run.recording.frame_ms
    split, timer, drift = run.split, run.timer, run.drift
    return {
        "model": run.subject.model,
        "recipe": run.subject.recipe,
        "weights": "random" if run.subject.random else "file",
        "dtype": run.dtype,
        "codec": run.codec,
        "fused_norms": run.fused_norms,
        "interrupted": run.recording.interrupted,
        "failure": run.recording.failure,
        "load_s": run.load_s,
        "warm_up_s": run.warm_up_s,
        "frame_ms": asdict(run.frame),
        "paced_frame_ms": run.paced and asdict(run.paced),
        "stages_ms": {stage: asdict(times) for stage, times in run.stages.items()},
        "typical_ms": run.typical_ms,
        "split_ms": split and {**asdict(split), "total_ms": split.total_ms},
        "timer": timer
        and {**asdict(timer), "gap_percent": timer.gap_percent, "cost_percent": timer.cost_percent},
        "real_time_factor": stats.real_time_factor(times),
        "over_80_ms_percent": stats.over_budget_percent(times),
        "response_latency_ms": run.response_latency_ms,
        "memory": {
            **asdict(run.memory),
            "expected_peak_bytes": run.expected_bytes,
            "beside_bytes": run.beside_bytes,
        },
        "floor": {**asdict(run.floor), "overhead_ms": run.overhead_ms},
        "drift": drift and {**asdict(drift), "percent": drift.percent},
        "context_ms": {str(history): ms for history, ms in run.context_ms.items()},
        "full_context_extra_ms": run.full_context_extra_ms,
        "verdict": {**asdict(run.verdict), "text": str(run.verdict)},
        "series": {
            "started_s": [round(frame.started_s, 4) for frame in run.recording.frames],
            "frame_ms": [round(frame.ms, 4) for frame in run.recording.frames],
        },
    }


def read(path: Path) -> Mapping[str, Any]:
    """A document of `--json`. Raises MoshiError for a file that isn't one of this version."""
    found = read_json_object(path, MoshiError, "give what `moshi bench --json` wrote")
    if found.get("schema") != SCHEMA:
        raise MoshiError(f"{path} is no report of `moshi bench --json`")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise MoshiError(
            f"{path} has schema version {found.get('schema_version')} and this program reads "
            f"{SCHEMA_VERSION}: measure again"
        )
    if not isinstance(found.get("runs"), list) or not found["runs"]:
        raise MoshiError(f"{path} holds no run: measure again")
    return found
