"""Runs a conversation and times it: every frame from outside, every other one also from inside.

The frame is the one people get, of whatever kind the model is (`kinds`). Those that are looked into
go part by part, with stopwatches at them; what these don't account for is the host's share. A codec
in MLX shares one evaluation with the language model: waiting after each part instead is all that
sets such frames apart from the others. Interrupting is no failure: what was measured so far is the
result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS

from .kinds import Frames, Measured
from .stats import FrameTime, RunTimes
from .watching import Stamp, Stopwatch

NOISE = 0.01  # amplitude of the input: as loud as a quiet room
WARM_FRAMES = 10
STAGES = ("encode", "lm", "decode")


@dataclass(frozen=True)
class Plan:
    """How long to run: `frames`, or `seconds` of speech at its own pace (as a talk would be)."""

    frames: int = 200
    seconds: float | None = None
    at_pace: bool = False  # a frame each 80 ms, as in a talk, also where frames are counted

    @property
    def paced(self) -> bool:
        return self.seconds is not None or self.at_pace

    def done(self, frames: int, since_start_s: float) -> float:
        """The share that is done, 1 at the end."""
        if self.seconds is not None:
            return min(1.0, since_start_s / self.seconds)
        return min(1.0, frames / self.frames)


def noise_frames(seed: int = 0, count: int = 50) -> list[np.ndarray]:
    """Frames of quiet noise, float32 [1920], to be repeated."""
    rng = np.random.default_rng(seed)
    return [(NOISE * rng.standard_normal(FRAME_SAMPLES)).astype(np.float32) for _ in range(count)]


def run(
    model: Measured,
    plan: Plan,
    warm_frames: int = WARM_FRAMES,
    progress: Callable[[float], None] | None = None,
) -> RunTimes:
    """Time a conversation on a model that is warm. `progress` gets the share that is done."""
    recording, inputs, watch = RunTimes(), noise_frames(), Stopwatch()
    with model.open(watch) as session:
        try:
            for i in range(warm_frames):
                session.step(inputs[i % len(inputs)])
            _frames(session, watch, inputs, plan, recording, progress or (lambda share: None))
        except KeyboardInterrupt:
            recording.interrupted = True
        except RuntimeError as error:  # MLX's, such as a GPU that is out of memory
            recording.failure = first_line(error)
    return recording


def first_line(error: BaseException) -> str:
    """What an error of the device says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _frames(
    session: Frames,
    watch: Stopwatch,
    inputs: list[np.ndarray],
    plan: Plan,
    recording: RunTimes,
    progress: Callable[[float], None],
) -> None:
    begun, i = time.perf_counter(), 0
    while (done := plan.done(i, time.perf_counter() - begun)) < 1:
        progress(done)
        if plan.paced:
            time.sleep(max(0.0, begun + i * FRAME_SECONDS - time.perf_counter()))
        watch.start(on=i % 2 == 1)
        start = time.perf_counter()
        session.step(inputs[i % len(inputs)])
        end = time.perf_counter()
        stages = stages_of(watch.stamps, end - start) if watch.on else None
        recording.frames.append(FrameTime(start - begun, 1000 * (end - start), stages))
        i += 1
    progress(1.0)


def stages_of(stamps: list[Stamp], frame_s: float) -> dict[str, float]:
    """Milliseconds of each stage of one frame; the host has what none of them took."""
    spent: dict[str, float] = {stage: 0.0 for stage in STAGES}
    for stage, start, end in stamps:
        spent[stage] += end - start
    spent["host"] = frame_s - sum(spent.values())
    return {stage: 1000 * seconds for stage, seconds in spent.items()}


def trace_frames(model: Measured, frames: int) -> list[list[Stamp]]:
    """Stamps of so many frames in a row, each list beginning with its whole ("frame")."""
    inputs, rows, watch = noise_frames(), [], Stopwatch()
    with model.open(watch) as session:
        for i in range(frames):
            watch.start()
            start = time.perf_counter()
            session.step(inputs[i % len(inputs)])
            rows.append([("frame", start, time.perf_counter()), *watch.stamps])
    return rows


def timer_cost_ms(rounds: int = 2000) -> float:
    """What the stopwatches of one frame cost: the same stamps around nothing."""

    watch = Stopwatch()

    def spent(stages: tuple[str, ...]) -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            watch.start()
            for stage in stages:
                with watch.stamp(stage):
                    pass
        return time.perf_counter() - start

    return max(0.0, 1000 * (spent(STAGES) - spent(())) / rounds)


@dataclass(frozen=True)
class Memory:
    """MLX's own counters: resident size hides what Metal holds."""

    active_bytes: int
    peak_bytes: int
    cache_bytes: int


def memory(before_bytes: int = 0) -> Memory:
    """`before_bytes`: what the process held before, which isn't counted."""
    active, peak = mx.get_active_memory(), mx.get_peak_memory()
    return Memory(active - before_bytes, peak - before_bytes, mx.get_cache_memory())
