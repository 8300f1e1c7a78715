"""Runs a conversation and times it: every frame from outside, every other one also from inside.

The frame is the one people get: `Session.step`. The session is made of a model whose codec streams
and generators carry stopwatches; what these don't account for in a frame is the host's share. A
codec in MLX shares one evaluation with the language model: frames that are looked into wait after
each part instead, which is all that sets them apart from the others.
Interrupting is no failure: what was measured so far is the result.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import mlx.core as mx
import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.moshi import Moshi, Session

from .stats import Frame, RunTimes

NOISE = 0.01  # amplitude of the input: as loud as a quiet room
WARM_FRAMES = 10
Stamp = tuple[str, float, float]  # stage, start and end in seconds of `perf_counter`
CODEC_STAGES = {"encode": "encode", "decode": "decode"}
SHARED = ("encode_lazy", "decode_lazy")  # the stream's ways into one evaluation
GENERATOR_STAGES = {"step": "lm", "submit": "lm", "finish": "lm"}


@dataclass(frozen=True)
class Plan:
    """How long to run: `frames`, or `seconds` of speech at its own pace (as a talk would be)."""

    frames: int = 200
    seconds: float | None = None

    @property
    def paced(self) -> bool:
        return self.seconds is not None

    def done(self, frames: int, since_start_s: float) -> float:
        """The share that is done, 1 at the end."""
        if self.seconds is not None:
            return min(1.0, since_start_s / self.seconds)
        return min(1.0, frames / self.frames)


@dataclass
class Stopwatch:
    """Collects the stamps of the frame under way while it is `on`."""

    on: bool = False
    stamps: list[Stamp] = field(default_factory=list)

    def start(self, on: bool = True) -> None:
        self.on, self.stamps = on, []


class Timed:
    """Stands in for an object; calls of the named methods are stamped with their stage."""

    def __init__(self, inner: object, stages: Mapping[str, str], watch: Stopwatch) -> None:
        self._inner, self._stages, self._watch = inner, stages, watch

    def __getattr__(self, name: str) -> Any:
        if name in SHARED and self._watch.on:
            raise AttributeError(name)  # part by part, for once
        found = getattr(self._inner, name)
        if name not in self._stages or not self._watch.on:
            return found

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = found(*args, **kwargs)
            self._watch.stamps.append((self._stages[name], start, time.perf_counter()))
            return result

        return timed


class _Makes:
    """Stands in for a model or a codec: what its method `makes` returns is timed."""

    def __init__(
        self, inner: object, makes: str, stages: Mapping[str, str], watch: Stopwatch
    ) -> None:
        self._inner, self._makes, self._stages, self._watch = inner, makes, stages, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._makes:
            return found
        return lambda *args, **kwargs: Timed(found(*args, **kwargs), self._stages, self._watch)


def watched(moshi: Moshi) -> tuple[Moshi, Stopwatch]:
    """The same model, whose sessions can be looked into."""
    watch = Stopwatch()
    lm = _Makes(moshi.lm, "generator", GENERATOR_STAGES, watch)
    codec = _Makes(moshi.codec, "stream", CODEC_STAGES, watch)
    return Moshi(cast(Any, lm), cast(Any, codec), moshi.tokenizer, moshi.folder), watch


def noise_frames(seed: int = 0, count: int = 50) -> list[np.ndarray]:
    """Frames of quiet noise, float32 [1920], to be repeated."""
    rng = np.random.default_rng(seed)
    return [(NOISE * rng.standard_normal(FRAME_SAMPLES)).astype(np.float32) for _ in range(count)]


def run(
    moshi: Moshi,
    plan: Plan,
    warm_frames: int = WARM_FRAMES,
    progress: Callable[[float], None] | None = None,
) -> RunTimes:
    """Time a conversation on a model that is warm. `progress` gets the share that is done."""
    recording, inputs = RunTimes(), noise_frames()
    model, watch = watched(moshi)
    with model.session(seed=0) as session:
        try:
            for i in range(warm_frames):
                session.step(inputs[i % len(inputs)])
            _frames(session, watch, inputs, plan, recording, progress or (lambda share: None))
        except KeyboardInterrupt:
            recording.interrupted = True
    return recording


def _frames(
    session: Session,
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
        recording.frames.append(Frame(start - begun, 1000 * (end - start), stages))
        i += 1
    progress(1.0)


def stages_of(stamps: list[Stamp], frame_s: float) -> dict[str, float]:
    """Milliseconds of each stage of one frame; the host has what none of them took."""
    spent = {"encode": 0.0, "lm": 0.0, "decode": 0.0}
    for stage, start, end in stamps:
        spent[stage] += end - start
    spent["host"] = frame_s - sum(spent.values())
    return {stage: 1000 * seconds for stage, seconds in spent.items()}


def trace_frames(moshi: Moshi, frames: int) -> list[list[Stamp]]:
    """Stamps of so many frames in a row, each list beginning with its whole ("frame")."""
    inputs, rows = noise_frames(), []
    model, watch = watched(moshi)
    with model.session(seed=0) as session:
        for i in range(frames):
            watch.start()
            start = time.perf_counter()
            session.step(inputs[i % len(inputs)])
            rows.append([("frame", start, time.perf_counter()), *watch.stamps])
    return rows


def timer_cost_ms(rounds: int = 2000) -> float:
    """What the stopwatches of one frame cost: the same calls around functions that do nothing."""

    class Nothing:
        def encode(self) -> None: ...
        def decode(self) -> None: ...
        def step(self) -> None: ...

    watch = Stopwatch(on=True)
    timed = Timed(Nothing(), {**CODEC_STAGES, **GENERATOR_STAGES}, watch)

    def spent(target: Any) -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            target.encode()
            target.step()
            target.decode()
        return time.perf_counter() - start

    return max(0.0, 1000 * (spent(timed) - spent(Nothing())) / rounds)


@dataclass(frozen=True)
class Memory:
    """MLX's own counters: resident size hides what Metal holds."""

    active_bytes: int
    peak_bytes: int
    cache_bytes: int


def memory() -> Memory:
    return Memory(mx.get_active_memory(), mx.get_peak_memory(), mx.get_cache_memory())
