"""Ready after a prompt: from disk and from memory, against its frames stepped one by one.

    python benchmarks/prompt.py

7B layer counts, random weights; `--frames` of prompt, `--width` of both transformers. The last line
is JSON; ratios, so that a busy machine's numbers stand.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from shapes import raw_config
from worker import machine

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ready after a prompt, against its frames stepped one by one."
    )
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--width", type=int, default=256)
    args = parser.parse_args()
    lm = random_lm(parse_config(raw_config(args.width, 4)), "fp32", "float32")
    tokens = np.ones((args.frames, 1 + lm.config.n_q), np.int32)
    user = np.zeros(lm.config.user_q, np.int32)
    stepped = lm.generator(seed=0)
    stepped.step(user)
    steps = seconds(lambda: [stepped.step(user) for _ in range(args.frames)])
    found = {"one pass": seconds(lambda: lm.generator(seed=0, prompt=lm.prompt(tokens)))}
    prompt = lm.prompt(tokens)
    found["memory"] = seconds(lambda: lm.generator(seed=0, prompt=prompt))
    found["digest"] = seconds(lambda: lm.model_digest.text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompt"
        prompt.save(path)
        found["disk"] = seconds(lambda: lm.generator(seed=0, prompt=lm.prompt_from(path)))
    ratios = {name: round(time_s / steps, 4) for name, time_s in found.items()}
    for name, ratio in ratios.items():
        print(f"{name:<10}{ratio:>8.4f} of {args.frames} frames stepped")
    print(json.dumps({"frames": args.frames, "width": args.width, **ratios, **machine()}))


if __name__ == "__main__":
    main()
