"""What a profiler opens: a Chrome / Perfetto trace of frames, a GPU capture for Xcode.

Trace Event Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
(open the file on https://ui.perfetto.dev or chrome://tracing). Metal capture:
https://ml-explore.github.io/mlx/build/html/dev/metal_debugger.html
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx

from moshi_mlx.clock import FRAME_MS
from moshi_mlx.errors import MoshiError

from .kinds import Measured
from .runner import noise_frames
from .watching import Stamp, Stopwatch

CAPTURED_FRAMES = 3


def events(name: str, rows: list[list[Stamp]], process: int = 1) -> list[dict[str, Any]]:
    """Stamps to complete events ("X", microseconds) and a counter of the time per frame.

    Each list of stamps begins with its whole, "frame"; every model is a process of its own.
    """
    origin, place = rows[0][0][1], {"pid": process, "tid": 1}
    found: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", **place, "args": {"name": f"moshi bench, {name}"}},
        {"ph": "M", "name": "thread_name", **place, "args": {"name": "model thread"}},
    ]
    for number, stamps in enumerate(rows):
        for stage, start, end in stamps:
            ms = 1000 * (end - start)
            event: dict[str, Any] = {"ph": "X", "name": stage, "cat": "moshi", **place}
            event |= {"ts": 1e6 * (start - origin), "dur": 1000 * ms}
            found.append(event)
            if stage == "frame":
                event["args"] = {"frame": number, "late": ms > FRAME_MS}
                counter = {"ph": "C", "name": "frame ms", **place, "ts": event["ts"]}
                found.append(counter | {"args": {"ms": round(ms, 3)}})
    return found


def document(traces: Mapping[str, list[list[Stamp]]]) -> dict[str, Any]:
    """A trace file of several models, as JSON."""
    models = [(name, rows) for name, rows in traces.items() if rows]
    all_events = [e for i, (name, rows) in enumerate(models, 1) for e in events(name, rows, i)]
    return {"traceEvents": all_events, "displayTimeUnit": "ms"}


class Metal(Protocol):
    """What of MLX's module `metal` a capture takes."""

    def is_available(self) -> bool: ...

    def start_capture(self, path: str) -> None:
        """Raises RuntimeError or ValueError where Metal can't."""
        ...

    def stop_capture(self) -> None: ...


METAL = cast(Metal, mx.metal)


def check_capture(
    path: Path, metal: Metal = METAL, environment: Mapping[str, str] = os.environ
) -> None:
    """Before the run: can Metal write a capture of this name? Raises MoshiError."""
    if not metal.is_available():
        raise MoshiError("--metal-capture needs a Mac with Metal: use --trace here")
    if environment.get("MTL_CAPTURE_ENABLED") != "1":
        raise MoshiError(
            "Metal captures are switched off: run MTL_CAPTURE_ENABLED=1 moshi bench ..."
        )
    if path.suffix != ".gputrace":
        raise MoshiError(f"{path}: a Metal capture's name must end in .gputrace")
    if path.exists():
        raise MoshiError(f"{path} exists and Metal doesn't overwrite it: choose another name")


def capture(path: Path, model: Measured, metal: Metal = METAL) -> None:
    """A GPU capture of a few frames of a warm model. Raises MoshiError where Metal refuses."""
    inputs = noise_frames(count=2 + CAPTURED_FRAMES)
    with model.open(Stopwatch()) as session:
        for frame in inputs[:2]:
            session.step(frame)
        try:
            metal.start_capture(str(path))
        except (RuntimeError, ValueError) as error:
            raise MoshiError(f"{path}: Metal can't capture ({error})") from None
        try:
            for frame in inputs[2:]:
                session.step(frame)
        finally:
            metal.stop_capture()
