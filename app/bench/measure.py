"""One model measured: load, warm up, run the conversation, split the language model, sweep."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx

from moshi_mlx.codec.rust import talk_bytes
from moshi_mlx.errors import MoshiError
from moshi_mlx.lm.layers.transformer import Block
from moshi_mlx.mimi import Mimi

from ..machine import verdict
from ..machine.verdict import Verdict
from . import floor, runner, split, stats, trace
from .floor import Floor
from .kinds import Measured
from .runner import Memory, Plan
from .split import Split
from .stats import Drift, RunTimes, Summary, TimerCheck
from .subject import Subject
from .watching import Stamp

TellProgress = Callable[[str, float], None]  # what is being done, and the share that is done
TRACE_FRAMES = 300  # at most
PACED_FRAMES = 38  # 3 s: an idle GPU in between lowers its clock, and macOS may take memory off it


@dataclass(frozen=True)
class Options:
    """What is measured beside the frames themselves."""

    plan: Plan
    context_sweep: bool = False
    trace: bool = False
    metal_capture: Path | None = None
    lm_frames: int = 20  # timed in the split pass and at each history of the sweep


@dataclass
class Run:
    """Everything that was found out about one model. None: not measured (interrupted before)."""

    subject: Subject
    recording: RunTimes
    floor: Floor
    memory: Memory
    load_s: float
    warm_up_s: float
    codec: str
    dtype: str
    answers: bool = True
    fused_norms: bool = False  # additions and norms ran as one kernel of a GPU
    paced: Summary | None = None  # frames with the pauses of a talk between them
    timer: TimerCheck | None = None
    split: Split | None = None
    context_ms: dict[int, float] = field(default_factory=dict)  # frames of history -> LM step
    trace: list[list[Stamp]] = field(default_factory=list)

    @property
    def frame(self) -> Summary:
        return stats.summarize(self.recording.frame_ms)

    @property
    def expected_bytes(self) -> int | None:
        """What was told before the run; None: nothing was."""
        return self.subject.expected_bytes.get(self.codec)

    @property
    def beside_bytes(self) -> int:
        """What rustymimi holds beside what MLX counts, by its size and the frames of the run."""
        frames = runner.WARM_FRAMES + len(self.recording.frames)
        return talk_bytes(frames) if self.codec == "rust" else 0

    @property
    def stages(self) -> dict[str, Summary]:
        """Empty where no frame was looked into."""
        times = {stage: self.recording.stage_ms(stage) for stage in stats.STAGES}
        return {stage: stats.summarize(ms) for stage, ms in times.items() if ms}

    @property
    def typical_ms(self) -> dict[str, float]:
        """The stages of a typical frame, which add up to it."""
        return stats.typical_stages(self.recording)

    @property
    def overhead_ms(self) -> float:
        """What a typical frame takes on top of the floor: codec, host, launches."""
        return self.frame.p50 - self.floor.ms

    @property
    def drift(self) -> Drift | None:
        return stats.drift(self.recording)

    @property
    def full_context_extra_ms(self) -> float | None:
        """What a language model step costs more when the context is full than in this run."""
        if not self.context_ms:
            return None
        points = sorted(self.context_ms)
        history = self.floor.history_frames
        below = max((h for h in points if h <= history), default=points[0])
        return max(0.0, self.context_ms[points[-1]] - self.context_ms[below])

    @property
    def verdict(self) -> Verdict:
        """Of a talk that is long enough to fill the context, where that was measured.

        By the frames at a talk's own pace: an Apple GPU that pauses between them is slower.
        """
        extra = self.full_context_extra_ms or 0.0
        frame, drift = self.paced or self.frame, self.drift
        hot_ms = 0.0 if drift is None else drift.last_ms
        times = (frame.p50, frame.p95, frame.mean, hot_ms)
        return verdict.of_measured(self.subject.recipe, *(ms + extra for ms in times))

    @property
    def response_latency_ms(self) -> float | None:
        """None where nobody waits for an answer."""
        return stats.response_latency_ms(self.frame.p50) if self.answers else None


class DeviceError(MoshiError):
    """MLX's device gave up on a model before its first frame."""


def failure_line(subject: Subject, why: str) -> str:
    name = f"{subject.model} {subject.recipe}".strip()
    return f"{name}: the device gave up ({why}): choose fewer bits, or --kv-bits 8"


def measure(subject: Subject, options: Options, gb_s: float, report: TellProgress) -> Run:
    """Raises KeyboardInterrupt and DeviceError only where no frame was timed yet."""
    gc.collect()  # the model before
    mx.clear_cache()
    mx.reset_peak_memory()
    before_bytes = mx.get_active_memory()
    report("loading", 0.0)
    start = time.perf_counter()
    try:
        model = subject.build()
        loaded = time.perf_counter()
        report("warming up", 0.0)
        model.warm_up()
    except RuntimeError as error:
        raise DeviceError(failure_line(subject, runner.first_line(error))) from None
    warm = time.perf_counter()
    recording = runner.run(model, options.plan, progress=lambda done: report("frames", done))
    if not recording.frames:
        if recording.failure is not None:
            raise DeviceError(failure_line(subject, recording.failure))
        raise KeyboardInterrupt
    history = runner.WARM_FRAMES + len(recording.frames) // 2
    run = Run(
        subject,
        recording,
        floor=floor.of_run(model.lm, history, gb_s),
        memory=runner.memory(before_bytes),
        load_s=loaded - start,
        warm_up_s=warm - loaded,
        codec="mlx" if isinstance(model.codec, Mimi) else "rust",
        dtype=str(model.lm.dtype).rpartition(".")[2],
        answers=model.answers,
        fused_norms=any(isinstance(m, Block) and m.joins_norms for m in model.lm.modules()),
        timer=stats.timer_check(recording, runner.timer_cost_ms()),
    )
    if not recording.interrupted and recording.failure is None:
        try:
            look_closer(run, model, options, report)
        except KeyboardInterrupt:
            recording.interrupted = True
        except RuntimeError as error:
            recording.failure = runner.first_line(error)
        run.memory = runner.memory(before_bytes)  # with the closer looks
    return run


def look_closer(run: Run, model: Measured, options: Options, report: TellProgress) -> None:
    """The passes after the run: pace, split, sweep, trace and capture."""
    if not options.plan.paced:
        report("at the pace of a talk", 0.0)
        plan = Plan(frames=min(options.plan.frames, PACED_FRAMES), at_pace=True)
        paced = runner.run(model, plan, warm_frames=1)
        if paced.frames:
            run.paced = stats.summarize(paced.frame_ms)
        if paced.interrupted:
            raise KeyboardInterrupt
        if paced.failure is not None:
            raise RuntimeError(paced.failure)
    report("splitting the language model", 0.0)
    run.split = split.split(model.lm, options.lm_frames, run.floor.history_frames, model.conditions)
    report("history", 0.0)
    context = model.lm.config.transformer.context or 1
    every = split.histories(context)
    run.context_ms = split.sweep(
        model.lm,
        every if options.context_sweep else (every[0], every[-1]),
        options.lm_frames,
        model.conditions,
    )
    if options.trace:
        report("trace", 0.0)
        run.trace = runner.trace_frames(model, min(options.plan.frames, TRACE_FRAMES))
    if options.metal_capture is not None:
        report("Metal capture", 0.0)
        trace.capture(options.metal_capture, model)
