"""From frame times to figures: percentiles, share over 80 ms, drift, latency; plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.clock import FRAME_MS

STAGES = ("encode", "lm", "decode", "host")
ACOUSTIC_DELAY_MS = FRAME_MS  # codebooks 2 to 8 come one frame after the first
# Round trip of a duplex stream with blocks of 480 samples and no hardware in it, measured with
# PortAudio on Linux; the converters of a real device and Bluetooth come on top.
AUDIO_BUFFERS_MS = 60.0
MINUTE_S = 60.0


@dataclass(frozen=True)
class Summary:
    """Percentiles of a list of times, milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    mean: float
    count: int


@dataclass(frozen=True)
class FrameTime:
    """One frame: when it began (seconds from the first), how long it took, and its stages.

    `stages`: milliseconds by name, they add up to `ms`; None for a frame nobody looked into.
    """

    started_s: float
    ms: float
    stages: Mapping[str, float] | None = None


@dataclass
class RunTimes:
    """What a run collects, frame by frame; `interrupted`: it was stopped before its end."""

    frames: list[FrameTime] = field(default_factory=list)
    interrupted: bool = False
    failure: str | None = None  # what the device said when it gave up

    @property
    def frame_ms(self) -> list[float]:
        return [frame.ms for frame in self.frames]

    def of(self, instrumented: bool) -> list[float]:
        """Times of the frames that were (not) looked into."""
        return [frame.ms for frame in self.frames if (frame.stages is not None) == instrumented]

    def stage_ms(self, stage: str) -> list[float]:
        """Times of one stage, of the frames that have it."""
        return [frame.stages[stage] for frame in self.frames if frame.stages is not None]


def summarize(times_ms: Sequence[float]) -> Summary:
    """Percentiles by linear interpolation; at least one time is needed."""
    times = np.asarray(times_ms, np.float64)
    p50, p95, p99 = map(float, np.percentile(times, (50, 95, 99)))
    return Summary(p50, p95, p99, float(times.max()), float(times.mean()), len(times))


def over_budget_percent(times_ms: Sequence[float]) -> float:
    """Share of frames that took longer than the 80 ms they last."""
    return 100.0 * float(np.mean(np.asarray(times_ms) > FRAME_MS))


def real_time_factor(times_ms: Sequence[float]) -> float:
    """Seconds of work per second of speech: below 1 keeps up."""
    return float(np.mean(times_ms)) / FRAME_MS


def response_latency_ms(compute_ms: float) -> float:
    """From the end of the user's word to Moshi's first sample, as far as software decides it."""
    return FRAME_MS + ACOUSTIC_DELAY_MS + compute_ms + AUDIO_BUFFERS_MS


@dataclass(frozen=True)
class Drift:
    """Medians of the first and the last minute: a machine that gets hot gets slower."""

    first_ms: float
    last_ms: float

    @property
    def percent(self) -> float:
        return 100.0 * (self.last_ms / self.first_ms - 1.0)


def drift(recording: RunTimes) -> Drift | None:
    """None for runs shorter than two minutes."""
    frames = recording.frames
    if not frames or frames[-1].started_s < 2 * MINUTE_S:
        return None
    begin = frames[-1].started_s - MINUTE_S
    first = [frame.ms for frame in frames if frame.started_s < MINUTE_S]
    last = [frame.ms for frame in frames if frame.started_s >= begin]
    return Drift(float(np.median(first)), float(np.median(last)))


def typical_stages(recording: RunTimes) -> dict[str, float]:
    """Milliseconds of each stage in a typical frame: the mean of the middle fifth of all frames

    that were looked into. Medians of stages taken one by one would not add up to any frame.
    Empty where no frame was looked into.
    """
    frames = sorted((f for f in recording.frames if f.stages), key=lambda f: f.ms)
    if not frames:
        return {}
    middle = frames[len(frames) * 2 // 5 : max(len(frames) * 3 // 5, len(frames) * 2 // 5 + 1)]
    stages = [frame.stages or {} for frame in middle]
    return {stage: float(np.mean([row[stage] for row in stages])) for stage in STAGES}


@dataclass(frozen=True)
class TimerCheck:
    """How far the figures can be trusted.

    `sum_ms`: the stages of a typical frame added up; `frame_ms`: median of the frames nobody looked
    into; `watched_ms`: of those that were looked into; `timer_ms`: what the stamps of one frame
    cost, measured on their own.
    """

    sum_ms: float
    frame_ms: float
    watched_ms: float
    timer_ms: float

    @property
    def gap_percent(self) -> float:
        return 100.0 * (self.sum_ms / self.frame_ms - 1.0)

    @property
    def cost_percent(self) -> float:
        return 100.0 * self.timer_ms / self.frame_ms


def timer_check(recording: RunTimes, timer_ms: float) -> TimerCheck | None:
    """None unless both kinds of frames were seen."""
    plain, watched = recording.of(instrumented=False), recording.of(instrumented=True)
    if not plain or not watched:
        return None
    total = sum(typical_stages(recording).values())
    return TimerCheck(total, float(np.median(plain)), float(np.median(watched)), timer_ms)
