"""The bench for people in a terminal: figures, a bar of each recipe's frame, the verdict."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from moshi_mlx.backend.command_buffers import CommandBuffers
from moshi_mlx.clock import FRAME_MS

from ..machine.power import brakes
from ..machine.verdict import RESERVE_MS, YES
from . import stats
from .document import Bench
from .measure import Run
from .stats import TimerCheck

# Part of a frame -> colour of its piece of the bar, in the order of the pipeline.
PARTS = {
    "encode": "cyan",
    "temporal": "blue",
    "depth": "magenta",
    "decode": "green",
    "host": "yellow",
}
ANSWERS = {"yes": "green", "tight": "yellow", "no": "red"}
BLOCKS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 56
HISTOGRAM_BINS = 40
UNSTEADY = 1.5  # p95 / p50 of a machine that has other things to do


def show(bench: Bench, console: Console) -> None:
    """The whole screen."""
    console.print(heading(bench))
    console.print()
    console.print(figures(bench.runs))
    for run in bench.runs:
        console.print()
        console.print(details(run))
    console.print()
    console.print(bars(bench.runs))
    console.print()
    for run in bench.runs:
        console.print(verdict(run))
    if bench.interrupted:
        console.print(Text("Interrupted: these are the frames until then.", "bold yellow"))


def heading(bench: Bench) -> Text:
    facts, gb_s = bench.facts, bench.bandwidth
    cores = f", {facts.gpu_cores} GPU cores" if facts.gpu_cores else ""
    memory = f", {facts.memory_gb:.0f} GB" if facts.memory_gb else ""
    text = Text()
    text.append("moshi bench", "bold")
    text.append(f"   {(facts.chip or 'unknown chip').strip()}{cores}{memory}\n")
    text.append(f"MLX {facts.mlx.version} on {facts.mlx.backend}, ", "dim")
    text.append(f"memory {gb_s.gb_s:.0f} GB/s ({gb_s.source})", "dim")
    for line in ways(bench):
        text.append(f"\n{line}", "yellow")
    for line in brakes(facts.power):
        text.append(f"\n{line}", "yellow")
    return text


def ways(bench: Bench) -> list[str]:
    """How MLX was told to work, where that isn't as it always is."""
    found, backend = [], bench.facts.mlx.backend
    if bench.command_buffers != CommandBuffers():
        without = "" if backend == "metal" else f": no difference on {backend}"
        found.append(f"{bench.command_buffers}{without}")
    if not bench.compiled:
        found.append("operation by operation: nothing was compiled")
    return found


def what(run: Run) -> str:
    """The model and what it ran on, in one line."""
    weights = "random weights" if run.subject.random else "its own weights"
    norms = ", addition and norm in one kernel" if run.fused_norms else ""
    return f"{run.subject.model}, {weights}, {run.dtype}, codec {run.codec}{norms}"


def memory(run: Run) -> str:
    """MLX's counters, and what they don't count."""
    sizes = run.memory
    text = f"{_gb(sizes.active_bytes)}, peak {_gb(sizes.peak_bytes)}"
    beside = f"; rustymimi {_gb(run.beside_bytes)} beside it" if run.beside_bytes else ""
    return f"{text}, cache {_gb(sizes.cache_bytes)}{beside}"


def figures(runs: Sequence[Run]) -> Table:
    """One row a recipe. Milliseconds unless the head says otherwise."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("frame, ms", no_wrap=True)
    for head in ("p50", "p95", "p99", "max", "of real time", "late", "latency"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in runs:
        frame, times = run.frame, run.recording.frame_ms
        late = stats.over_budget_percent(times)
        table.add_row(
            Text(run.subject.recipe, "bold"),
            Text(f"{frame.p50:.1f}", "bold"),
            *(f"{ms:.1f}" for ms in (frame.p95, frame.p99, frame.max)),
            f"{stats.real_time_factor(times):.2f} x",
            Text(f"{late:.1f} %", "red" if late >= 1 else ""),
            latency(run),
        )
    return table


def latency(run: Run) -> str:
    """Until an answer begins; a dash where nobody waits for one."""
    return "-" if run.response_latency_ms is None else f"{run.response_latency_ms:.0f} ms"


def details(run: Run) -> Table:
    """What the figures of one run are made of: a title, and a labelled line for each pass."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row(
        Text(run.subject.recipe, "bold not dim"),
        f"{what(run)}, {run.frame.count} frames",
    )
    for label, text in lines(run):
        table.add_row(f"  {label}", text)
    return table


def lines(run: Run) -> Iterator[tuple[str, Text]]:
    """Label and text of each thing that was measured."""
    yield "frames", Text.assemble(*histogram(run))
    if run.typical_ms:
        pieces = [f"{stage} {ms:.2f}" for stage, ms in run.typical_ms.items() if ms]
        yield "parts", Text(" + ".join(pieces) + " ms")
    if run.timer:
        yield "timer", Text(timer(run.timer), "dim")
    if run.split:
        halves = f"temporal {run.split.temporal_ms:.2f} + depth {run.split.depth_ms:.2f}"
        uncut = f" = {run.split.total_ms:.2f} ms in a pass of its own, uncut "
        yield "lm", Text(halves).append(f"{uncut}{run.split.uncut_ms:.2f}", "dim")
    if run.context_ms:
        points = [f"{ms:.2f} ms at {history}" for history, ms in sorted(run.context_ms.items())]
        yield "history", Text("lm ").append(", ".join(points)).append(" frames", "dim")
    if run.drift:
        drift = run.drift
        text = Text(f"first minute {drift.first_ms:.1f} ms, last {drift.last_ms:.1f} ms")
        yield "heat", text.append(f" ({drift.percent:+.1f} %)", "red" if drift.percent > 5 else "")
    yield "memory", Text(memory(run))
    yield "start", Text(f"loaded in {run.load_s:.1f} s, warm in {run.warm_up_s:.1f} s")


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def timer(check: TimerCheck) -> str:
    """How far the sum of the parts is from a frame nobody looked into, and what looking costs."""
    return (
        f"parts add up to {check.sum_ms:.2f} ms, the frame to {check.frame_ms:.2f} "
        f"({check.gap_percent:+.1f} %); timers cost {check.cost_percent:.2f} %"
    )


def histogram(run: Run) -> tuple[str, tuple[str, str], str]:
    """Frames by time, from the fastest to p99, in one line: pieces of a text."""
    times, frame = run.recording.frame_ms, run.frame
    low, high = min(times), max(frame.p99, min(times) + 0.01)
    counts = [0] * HISTOGRAM_BINS
    for ms in times:
        counts[min(HISTOGRAM_BINS - 1, int((ms - low) / (high - low) * HISTOGRAM_BINS))] += 1
    top = max(counts)
    line = "".join(" " if not n else BLOCKS[min(7, int(8 * n / top))] for n in counts)
    return f"{low:.1f} ", (line, "cyan"), f" {high:.1f} ms"


def parts_ms(run: Run) -> dict[str, float]:
    """A typical frame by parts; the split pass says how the language model's time divides."""
    stages = run.typical_ms
    if not stages:
        return {}
    lm = stages.pop("lm")
    share = run.split.temporal_ms / run.split.total_ms if run.split else 1.0
    halves = {"temporal": lm * share, "depth": lm * (1 - share)}
    return {part: {**stages, **halves}[part] for part in PARTS}


def bars(runs: Sequence[Run]) -> Group:
    """A bar a recipe, all on one scale, with marks for the floor and for 80 ms."""
    scale = max([FRAME_MS, *(run.frame.p95 for run in runs)]) / BAR_WIDTH
    table = Table.grid(padding=(0, 1))
    for run in runs:
        table.add_row(Text(run.subject.recipe, "bold"), bar(run, scale), f"{run.frame.p50:.1f} ms")
    legend = Text()
    for part, colour in PARTS.items():
        legend.append("█ ", colour).append(f"{part}  ")
    legend.append("▲ ", "bold").append("floor  ").append("│ ", "bold red").append("80 ms")
    table.add_row("", marks(runs, scale), "")
    return Group(table, legend)


def bar(run: Run, scale: float) -> Text:
    """One frame in coloured pieces; a thin line goes on to p95."""
    text, parts = Text(), parts_ms(run) or {"host": run.frame.p50}
    end = 0.0
    for part, ms in parts.items():
        begin, end = end, end + ms
        text.append("█" * (round(end / scale) - round(begin / scale)), PARTS[part])
    text.append("─" * max(0, round(run.frame.p95 / scale) - len(text)), "dim")
    limit = round(FRAME_MS / scale)
    text.append(" " * max(0, limit - len(text)))
    if len(text) == limit:
        text.append("│", "bold red")
    return text


def marks(runs: Sequence[Run], scale: float) -> Text:
    """The floors of all runs below the bars."""
    row = [" "] * (BAR_WIDTH + 1)
    for run in runs:
        row[min(BAR_WIDTH, round(run.floor.ms / scale))] = "▲"
    return Text("".join(row).rstrip(), "bold")


def verdict(run: Run) -> Text:
    found, floor = run.verdict, run.floor
    text = Text()
    text.append(str(found), f"bold {ANSWERS[found.answer]}")
    text.append(f"   {run.frame.p50:.1f} ms, floor {floor.ms:.1f} ms, ")
    text.append(f"overhead {run.overhead_ms:.1f} ms")
    if run.paced is not None:
        text.append(f"; at the pace of a talk {run.paced.p50:.1f} ms, p95 {run.paced.p95:.1f}")
    if found.answer != YES:
        text.append("\n   " + advice(run), "dim")
    return text


def advice(run: Run) -> str:
    """Where the time goes decides what helps."""
    if run.floor.ms > FRAME_MS:
        return "the memory of this machine is too slow for so many bytes: use fewer bits"
    if run.frame.p50 <= FRAME_MS and run.frame.p95 > UNSTEADY * run.frame.p50:
        return "the typical frame is in time, some are not: close other programs, measure again"
    if run.overhead_ms > FRAME_MS - RESERVE_MS:
        return "fewer bits won't do: the overhead alone takes that long; is the machine busy?"
    return "fewer bits or a smaller model help: there is less to read in every frame"
