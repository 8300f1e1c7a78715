"""The bench as a web page in one file: no script, no font, no request; charts are drawn in SVG."""

from collections.abc import Sequence
from html import escape

from moshi_mlx.report.html_page import document, table

from . import charts, stats
from .document import Bench
from .measure import Run
from .screen import PARTS, advice, latency, memory, parts_ms, ways, what


def page(bench: Bench) -> str:
    """A whole HTML document."""
    facts = bench.facts
    cores = f", {facts.gpu_cores} GPU cores" if facts.gpu_cores else ""
    memory = f", {facts.memory_gb:.0f} GB" if facts.memory_gb else ""
    machine = f"{(facts.chip or 'unknown chip').strip()}{cores}{memory}"
    system = "macOS" if facts.system == "Darwin" else facts.system
    where = "; ".join(
        (
            f"{system} {facts.os_version}, Python {facts.python}, MLX {facts.mlx.version} on "
            f"{facts.mlx.backend}, memory {bench.bandwidth.gb_s:.0f} GB/s "
            f"({bench.bandwidth.source})",
            *ways(bench),
        )
    )
    stopped = (
        "<p class='tight'>Interrupted: the frames until then.</p>" if bench.interrupted else ""
    )
    return document(
        f"moshi bench: {machine}",
        f"<h1>moshi bench</h1><p>{escape(machine)}</p><p class='soft'>{escape(where)}</p>{stopped}"
        f"<section>{overview(bench.runs)}</section>"
        + "".join(f"<section>{details(run)}</section>" for run in bench.runs),
    )


def overview(runs: Sequence[Run]) -> str:
    """Verdicts, the table of all recipes, and their frames as bars."""
    verdicts = "".join(
        f"<p><span class='verdict {run.verdict.answer}'>{escape(str(run.verdict))}</span><br>"
        f"<span class='soft'>{run.frame.p50:.1f} ms, floor {run.floor.ms:.1f} ms, overhead "
        f"{run.overhead_ms:.1f} ms"
        + ("" if run.verdict.answer == "yes" else f". {escape(advice(run)).capitalize()}")
        + "</span></p>"
        for run in runs
    )
    heads = ("", "p50", "p95", "p99", "max ms", "of real time", "over 80 ms", "answer after")
    rows = [
        (
            run.subject.recipe,
            *(f"{ms:.1f}" for ms in (run.frame.p50, run.frame.p95, run.frame.p99, run.frame.max)),
            f"{stats.real_time_factor(run.recording.frame_ms):.2f} x",
            f"{stats.over_budget_percent(run.recording.frame_ms):.1f} %",
            latency(run),
        )
        for run in runs
    ]
    bars = charts.stacked(
        [
            (run.subject.recipe, parts_ms(run) or {"host": run.frame.p50}, run.floor.ms)
            for run in runs
        ]
    )
    legend = "".join(f"<span><i style='background:var(--{p})'></i>{p}</span>" for p in PARTS)
    caption = (
        "A typical frame by parts; the mark across it is the floor, what reading weights takes"
    )
    return (
        verdicts
        + table(heads, rows)
        + f"<figure><figcaption>{caption}</figcaption>{bars}</figure><p class='legend'>{legend}</p>"
    )


def details(run: Run) -> str:
    """One model: what it is, its parts, histogram, timeline."""
    facts = (
        f"{what(run)}; loaded in {run.load_s:.1f} s, warm in {run.warm_up_s:.1f} s; "
        f"memory {memory(run)}"
    )
    times = run.recording.frame_ms
    drawn = (
        "<figure><figcaption>Frames by time, ms</figcaption>"
        f"{charts.histogram(times)}</figure>"
        "<figure><figcaption>Frames over the run, ms by seconds</figcaption>"
        f"{charts.timeline(run.recording.frames)}</figure>"
    )
    return (
        f"<h2>{escape(run.subject.recipe)}</h2><p class='soft'>{escape(facts)}</p>"
        f"{parts_table(run)}{notes(run)}{drawn}"
    )


def parts_table(run: Run) -> str:
    if not run.stages:
        return ""
    rows = [
        (stage, *(f"{ms:.2f}" for ms in (run.typical_ms[stage], s.p50, s.p95, s.p99, s.max)))
        for stage, s in run.stages.items()
    ]
    frame, typical = run.frame, sum(run.typical_ms.values())
    rows.append(
        (
            "whole frame",
            *(f"{ms:.2f}" for ms in (typical, frame.p50, frame.p95, frame.p99, frame.max)),
        )
    )
    return table(("part", "typical", "p50", "p95", "p99", "max ms"), rows)


def notes(run: Run) -> str:
    """The passes beside the run, a sentence each."""
    said = []
    if run.timer:
        said.append(
            f"Parts add up to {run.timer.sum_ms:.2f} ms; frames that were not looked into take "
            f"{run.timer.frame_ms:.2f} ms ({run.timer.gap_percent:+.1f} %). The timers of a frame "
            f"cost {run.timer.cost_percent:.2f} %."
        )
    if run.split:
        said.append(
            f"Language model cut in two: temporal {run.split.temporal_ms:.2f} + depth "
            f"{run.split.depth_ms:.2f} = {run.split.total_ms:.2f} ms, uncut "
            f"{run.split.uncut_ms:.2f} ms."
        )
    if run.context_ms:
        points = ", ".join(f"{h}: {ms:.2f}" for h, ms in sorted(run.context_ms.items()))
        said.append(f"Language model after so many frames of history: {points} ms.")
    if run.drift:
        said.append(
            f"First minute {run.drift.first_ms:.1f} ms, last {run.drift.last_ms:.1f} ms "
            f"({run.drift.percent:+.1f} %)."
        )
    return "".join(f"<p class='soft'>{escape(text)}</p>" for text in said)
