"""How far `moshi bench` can be trusted, as ratios measured here on nano.

    python benchmarks/trust.py [--frames 100] [--rounds 5]

Random weights against real ones of the same shape, frame by frame in turns (median of the rounds'
ratios); two runs of the same model (the larger median by the smaller, median of the rounds); the
parts' sum against frames that nobody looked into; what looking costs. The last line is JSON. On an
idle machine, please: its load is in the report.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median

import mlx.core as mx

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.bench import stats, subject
from app.bench.kinds import Converses, Measured
from app.bench.runner import WARM_FRAMES, Plan, noise_frames, run, timer_cost_ms
from app.bench.stats import RunTimes
from app.bench.watching import Stopwatch
from moshi_mlx.backend.device import on_gpu
from moshi_mlx.moshi import load


def frames_in_turn(one: Measured, two: Measured, frames: int) -> tuple[float, float]:
    """Median frame of `two` by that of `one`, two conversations that take turns at every frame.

    By the clock, and by this process's own time on the CPU, which other programs disturb less.
    """
    inputs, rows = noise_frames(), ([], [])
    with one.open(Stopwatch()) as a, two.open(Stopwatch()) as b:
        for i in range(frames + WARM_FRAMES):
            for session, spent in ((a, rows[0]), (b, rows[1]))[:: 1 if i % 2 else -1]:
                start, cpu = time.perf_counter(), time.process_time()
                session.step(inputs[i % len(inputs)])
                spent.append((time.perf_counter() - start, time.process_time() - cpu))
    clock, cpu = ([median(row[k] for row in r[WARM_FRAMES:]) for r in rows] for k in (0, 1))
    return clock[1] / clock[0], cpu[1] / cpu[0]


def larger_by_smaller(a: RunTimes, b: RunTimes) -> float:
    """Of the medians of two runs."""
    one, two = median(a.frame_ms), median(b.frame_ms)
    return max(one, two) / min(one, two)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    load_at_start = os.getloadavg()[0]
    real = Converses(load("nano", codec="mlx"))
    made = subject.random_model(subject.speech_config("nano"), "fp32", "nano", gpu=on_gpu())
    for model in (real, made):
        model.warm_up()
    ratios = [frames_in_turn(real, made, args.frames) for _ in range(args.rounds)]
    runs = [run(real, Plan(args.frames)) for _ in range(2 * args.rounds)]
    again = [larger_by_smaller(a, b) for a, b in zip(runs[::2], runs[1::2], strict=True)]
    frames = [frame for recording in runs for frame in recording.frames]
    check = stats.timer_check(RunTimes(frames), timer_cost_ms())
    assert check is not None
    found = {
        "random / real": median(clock for clock, _ in ratios),
        "random / real, CPU time": median(cpu for _, cpu in ratios),
        "two runs": median(again),
        "parts / frame": check.sum_ms / check.frame_ms,
        "looked into / not": check.watched_ms / check.frame_ms,
        "timers' share": check.cost_percent / 100,
    }
    for name, ratio in found.items():
        print(f"{name:<24} {ratio:.4f}")
    rounded = {name: round(ratio, 5) for name, ratio in found.items()}
    machine = {"machine": platform.machine(), "device": str(mx.default_device())}
    load_now = {"load_before": load_at_start, "load_after": os.getloadavg()[0]}
    print(json.dumps({**rounded, **machine, **load_now, "frames": args.frames}))


if __name__ == "__main__":
    main()
