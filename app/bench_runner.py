"""Runs a conversation and times it: every frame from outside, every other one also from inside.

The frame is the one people get: `Session.step`. In an instrumented frame the session's codec and
generator are wrapped in stopwatches, and what they don't account for is the host's share.
Interrupting is no failure: what was measured so far is the result.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.moshi import Moshi, Session

from .bench_stats import Recording

NOISE = 0.01  # amplitude of the input: as loud as a quiet room
Stamp = tuple[str, float, float]  # stage, start and end in seconds of `perf_counter`
Watch = Callable[[Stamp], None]


@dataclass(frozen=True)
class Plan:
    """How long to run: `frames`, or `seconds` of speech at its own pace (as a talk would be)."""

    frames: int = 200
    seconds: float | None = None

    @property
    def paced(self) -> bool:
        return self.seconds is not None

    def over(self, frames: int, since_start_s: float) -> bool:
        if self.seconds is not None:
            return since_start_s >= self.seconds
        return frames >= self.frames


class Timed:
    """Stands in for an object and reports when the named methods of it start and end."""

    def __init__(self, inner: object, stages: dict[str, str], watch: Watch) -> None:
        self._inner, self._stages, self._watch = inner, stages, watch

    def __getattr__(self, name: str):
        found = getattr(self._inner, name)
        stage = self._stages.get(name)
        if stage is None:
            return found

        def timed(*args, **kwargs):
            start = time.perf_counter()
            result = found(*args, **kwargs)
            self._watch((stage, start, time.perf_counter()))
            return result

        return timed


def instrument(session: Session, watch: Watch) -> Callable[[], None]:
    """Put stopwatches into a session; returns what takes them out again."""
    stream, generator = session._stream, session._generator
    session._stream = Timed(stream, {"encode": "encode", "decode": "decode"}, watch)  # type: ignore
    session._generator = Timed(generator, {"step": "lm"}, watch)  # type: ignore

    def restore() -> None:
        session._stream, session._generator = stream, generator

    return restore


def noise_frames(seed: int = 0, count: int = 50) -> list[np.ndarray]:
    """Frames of quiet noise, float32 [1920], to be repeated."""
    rng = np.random.default_rng(seed)
    return [(NOISE * rng.standard_normal(FRAME_SAMPLES)).astype(np.float32) for _ in range(count)]


def run(
    moshi: Moshi, plan: Plan, warm_frames: int = 10, progress: Callable[[float], None] | None = None
) -> Recording:
    """Time a conversation on a model that is warm. `progress` gets the share that is done."""
    recording = Recording()
    inputs = noise_frames()
    with moshi.session(seed=0) as session:
        try:
            for i in range(warm_frames):
                session.step(inputs[i % len(inputs)])
            _frames(session, inputs, plan, recording, progress)
        except KeyboardInterrupt:
            recording.interrupted = True
    return recording


def _frames(
    session: Session,
    inputs: list[np.ndarray],
    plan: Plan,
    recording: Recording,
    progress: Callable[[float], None] | None,
) -> None:
    begun = time.perf_counter()
    while not plan.over(i := len(recording.frame_ms), time.perf_counter() - begun):
        if plan.paced:
            time.sleep(max(0.0, begun + i * FRAME_SECONDS - time.perf_counter()))
        stamps: list[Stamp] = []
        instrumented = i % 2 == 1
        restore = instrument(session, stamps.append) if instrumented else None
        start = time.perf_counter()
        session.step(inputs[i % len(inputs)])
        end = time.perf_counter()
        if restore:
            restore()
            add_stages(recording, stamps, end - start)
        recording.frame_ms.append(1000 * (end - start))
        recording.started_s.append(start - begun)
        recording.instrumented.append(instrumented)
        if progress:
            done = i / plan.frames if plan.seconds is None else (end - begun) / plan.seconds
            progress(min(1.0, done))


def add_stages(recording: Recording, stamps: Iterable[Stamp], frame_s: float) -> None:
    """The stages of one frame; the host has what none of them took."""
    spent = {"encode": 0.0, "lm": 0.0, "decode": 0.0}
    for stage, start, end in stamps:
        spent[stage] += end - start
    spent["host"] = frame_s - sum(spent.values())
    for stage, seconds in spent.items():
        recording.stage_ms[stage].append(1000 * seconds)


def trace_frames(moshi: Moshi, frames: int) -> list[list[Stamp]]:
    """Stamps of so many frames in a row, each list beginning with its whole ("frame")."""
    inputs, rows = noise_frames(), []
    with moshi.session(seed=0) as session:
        for i in range(frames):
            stamps: list[Stamp] = []
            restore = instrument(session, stamps.append)
            start = time.perf_counter()
            session.step(inputs[i % len(inputs)])
            rows.append([("frame", start, time.perf_counter()), *stamps])
            restore()
    return rows


def timer_cost_ms(rounds: int = 2000) -> float:
    """What the stopwatches of one frame cost: the same calls around functions that do nothing."""

    class Nothing:
        def encode(self) -> None: ...
        def decode(self) -> None: ...
        def step(self) -> None: ...

    plain, stamps = Nothing(), []
    timed = Timed(plain, {"encode": "encode", "decode": "decode", "step": "lm"}, stamps.append)

    def spent(target: object) -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            target.encode(), target.step(), target.decode()  # type: ignore
        return time.perf_counter() - start

    return max(0.0, 1000 * (spent(timed) - spent(plain)) / rounds)


@dataclass(frozen=True)
class Memory:
    """MLX's own counters: resident size hides what Metal holds."""

    active_bytes: int
    peak_bytes: int
    cache_bytes: int


def memory() -> Memory:
    return Memory(mx.get_active_memory(), mx.get_peak_memory(), mx.get_cache_memory())
