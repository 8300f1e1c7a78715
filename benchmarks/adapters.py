"""What an adapter costs a frame: kept beside the weights, against the same model without one.

    python benchmarks/adapters.py [--rank 64]

At the 7B's layer counts (32 + 8 x 6) and vocabularies. Both models share their weights and take
turns in one process; ratios are medians of the runs. Kernels as in kernels.py. A merged adapter is
a model of the same shape: it costs nothing, and isn't measured. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np
from graph import as_on_metal, kernels
from shapes import AUDIO, MODELS, TEXT, raw_config
from worker import ROOT, machine, timed_ms

sys.path.insert(0, str(ROOT))

from app.machine.random_model import random_lm
from benchmarks.random_adapter import random_adapter
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.adaptation import Adaptation, with_adapter

TURN, WARM_FRAMES = 3, 3
SAMPLERS = {
    "text_temperature": TEXT[0],
    "text_top_k": TEXT[1],
    "audio_temperature": AUDIO[0],
    "audio_top_k": AUDIO[1],
}


def kernels_of(lm: Lm) -> int:
    codes = np.zeros(lm.config.user_q, np.int32)
    with as_on_metal():
        generator = lm.generator(seed=0, **{**SAMPLERS, "text_temperature": 0.71})
        generator.step(codes)
        tokens = generator.submit(codes).arrays()
        return sum(kernels([*tokens, *generator.buffers.arrays()]).values())


def measure(lm: Lm, other: Lm, runs: int, frames: int) -> dict[str, list[float]]:
    """frame and host time, ratio of the two models in each run, by turns."""
    codes = np.zeros(lm.config.user_q, np.int32)
    sides = [each.generator(seed=0, **SAMPLERS) for each in (lm, other)]
    for side in sides:
        for _ in range(WARM_FRAMES):
            side.step(codes)
    found: dict[str, list[float]] = {"frame": [], "host": []}
    for _ in range(runs):
        times: dict[str, list[list[float]]] = {"frame": [[], []], "host": [[], []]}
        for turn in range(frames // TURN):
            for i in (0, 1) if turn % 2 else (1, 0):
                side = sides[i]
                for _ in range(TURN):
                    times["frame"][i].append(timed_ms(lambda side=side: side.step(codes)))
                    call = lambda side=side: side.submit(codes)  # noqa: E731
                    times["host"][i].append(timed_ms(call, side.finish))
        for name, (plain, adapted) in times.items():
            found[name].append(median(adapted) / median(plain))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=15, help="of each model in each run")
    args = parser.parse_args()
    result = {}
    for name in ("width-64-fp32", "width-128-q4", "width-512-q4"):
        width, heads, recipe = MODELS[name]
        lm = random_lm(parse_config(raw_config(width, heads)), recipe, "float32")
        with tempfile.TemporaryDirectory() as folder:
            path = random_adapter(lm.config, args.rank, Path(folder) / "lora.safetensors")
            other = with_adapter(lm, Adaptation(path, 2.0))
        both = kernels_of(lm), kernels_of(other)
        ratios = measure(lm, other, args.runs, args.frames)
        result[name] = {"kernels": both, **{k: round(median(v), 3) for k, v in ratios.items()}}
        told = "; ".join(
            f"{k} x {median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for k, v in ratios.items()
        )
        print(f"{name}, rank {args.rank}: kernels {both[1]} / {both[0]}; {told}", flush=True)
    print(json.dumps({"rank": args.rank, **result, "mlx": mx.__version__, **machine()}))


if __name__ == "__main__":
    main()
