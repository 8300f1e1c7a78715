"""A frame of the language model, moshi-local against Kyutai's `moshi_mlx`, on this machine.

    python benchmarks/frame.py --peer-python .venv-peer/bin/python

Both at the 7B's layer counts (32 + 8 x 6) and vocabularies, the same samplers, the tokens read
back every frame. The two run in processes of their own and take turns every few frames, so that
what else the machine does hits both; a run's figure is the median of its frames, and the ratio the
median over the runs. `quiet` is the ratio of each side's fastest tenth: what a busy machine hides.
 `host` is the time until the frame's graph is whole, before any of it runs.
The last line is JSON.
"""

import argparse
import json
import sys
from statistics import median
from typing import Any

from worker import Worker, machine, peer_python

MEASURES = {  # name -> model, method of the sides
    "frame, width 64, fp32": ("width-64-fp32", "frame"),
    "host, width 64, fp32": ("width-64-fp32", "build"),
    "frame, width 512, q4": ("width-512-q4", "frame"),
}
WARM_FRAMES = 6
TURN = 3  # frames


def compare(peer: str, model: str, methods: list[str], runs: int, frames: int) -> dict[str, Any]:
    """method -> the two medians in milliseconds and the median ratio of the runs."""
    sides = [Worker(sys.executable, "frame_ours.py", model), Worker(peer, "frame_kyutai.py", model)]
    for side in sides:
        side("frame", WARM_FRAMES)
    found: dict[str, Any] = {}
    for method in methods:
        pairs = [run(sides, method, frames) for _ in range(runs)]
        ratios = [median(ours) / median(theirs) for ours, theirs in pairs]
        ours, theirs = ([t for times in side for t in times] for side in zip(*pairs, strict=True))
        found[method] = {
            "ours_ms": round(median(ours), 2),
            "theirs_ms": round(median(theirs), 2),
            "ratio": round(median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "quiet": round(fast(ours) / fast(theirs), 3),
        }
    for side in sides:
        side.close()
    return {**found, "versions": {**sides[1].versions, **sides[0].versions}}


def run(sides: list[Worker], method: str, frames: int) -> tuple[list[float], list[float]]:
    """Milliseconds of `frames` frames of each side, taking turns."""
    took: list[list[float]] = [[], []]
    for turn in range(-(-frames // TURN)):
        for i in (0, 1) if turn % 2 else (1, 0):
            took[i] += sides[i](method, TURN)
    return took[0], took[1]


def fast(times: list[float]) -> float:
    return sorted(times)[len(times) // 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=15, help="of each side in each run")
    args = parser.parse_args()
    peer, results = peer_python(args.peer_python), {}
    versions: dict[str, str] = {}
    for model in dict.fromkeys(model for model, _ in MEASURES.values()):
        names = {method: name for name, (of, method) in MEASURES.items() if of == model}
        found = compare(peer, model, list(names), args.runs, args.frames)
        versions = found["versions"]
        for method, name in names.items():
            results[name] = row = found[method]
            print(
                f"{name:<24} {row['ours_ms']:8.2f} ms against {row['theirs_ms']:8.2f} ms: "
                f"{row['ratio']:.2f} (runs {min(row['ratios']):.2f} to {max(row['ratios']):.2f}; "
                f"quiet {row['quiet']:.2f})",
                flush=True,
            )
    print(json.dumps({**results, "versions": versions, **machine()}))


if __name__ == "__main__":
    main()
