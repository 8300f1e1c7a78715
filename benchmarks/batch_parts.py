"""Why four in a batch cost what they cost: a frame of one and of four, and its parts by themselves.

    python benchmarks/batch_parts.py

Talks at the 7B's layer counts and speech to text at stt-1b's, both 64 wide, float32. Every matrix
product of a frame in one evaluation of nothing else, the attention of all layers likewise, and the
host's time until a frame is submitted; CPU time of this process, which other programs disturb
less: medians of turns. LD_PRELOAD as in batch.py. The last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from shapes import AUDIO, TEXT, listening_config, raw_config
from worker import machine

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.layers.kv_ring import lengths
from moshi_mlx.lm.layers.linear import Linear
from moshi_mlx.lm.model import Lm

WIDTH, HEADS, ROWS, WARM = 64, 4, (1, 4), 3
SAMPLING = dict(
    text_temperature=TEXT[0],
    text_top_k=TEXT[1],
    audio_temperature=AUDIO[0],
    audio_top_k=AUDIO[1],
)
GREEDY = dict(text_temperature=0.0, audio_temperature=0.0)
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "talk": (raw_config(WIDTH, HEADS), SAMPLING),
    "listening": (listening_config(WIDTH, HEADS), GREEDY),
}


def cpu_ms(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def products(lm: Lm, rows: int) -> Callable[[], None]:
    """All of a frame's; a set of weights that several slices share is multiplied by each."""
    schedule = lm.config.depth.schedule if lm.config.depth else ()
    found = []
    for name, module in tree_flatten(lm.leaf_modules(), is_leaf=lambda m: isinstance(m, Linear)):
        if isinstance(module, Linear):
            _, is_set, rest = name.partition("depth.weight_sets.")
            times = schedule.count(int(rest.split(".")[0])) if is_set else 1
            found += [module.transposed] * times
    given = {matrix.shape[0]: mx.random.normal((rows, matrix.shape[0])) for matrix in found}
    mx.eval(given)
    return lambda: mx.eval([given[matrix.shape[0]] @ matrix for matrix in found])


def attention(lm: Lm, rows: int) -> Callable[[], None]:
    """Of the temporal layers, at the shortest history that a frame looks at."""
    t = lm.config.transformer
    keys = lengths(t.context or 0)[0]
    q = mx.random.normal((rows, t.num_heads, 1, t.head_dim))
    k = mx.random.normal((rows, t.num_kv_heads, keys, t.head_dim))
    mask = mx.ones((rows, t.num_heads, 1, keys), mx.bool_)
    mx.eval(q, k, mask)
    attend = mx.fast.scaled_dot_product_attention
    return lambda: mx.eval([attend(q, k, k, scale=0.1, mask=mask) for _ in range(t.num_layers)])


def parts(lm: Lm, rows: int, options: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Name -> what runs it once."""
    one, codes = rows == 1, np.zeros((rows, lm.config.user_q), np.int32)
    talk = lm.generator(seed=0, **options) if one else lm.generator(batch=rows, **options)
    return {
        "frame": lambda: talk.step(codes[0] if one else codes),
        "products": products(lm, rows),
        "attention": attention(lm, rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=30)
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for name, (config, options) in MODELS.items():
        lm = random_lm(parse_config(config), "fp32", "float32")
        sides = {
            (part, rows): run for rows in ROWS for part, run in parts(lm, rows, options).items()
        }
        took: dict[tuple[str, int], list[float]] = {side: [] for side in sides}
        for turn in range(WARM + args.turns):
            for side, run in list(sides.items())[:: 1 if turn % 2 else -1]:
                took[side].append(cpu_ms(run))
        ms = {side: median(times[WARM:]) for side, times in took.items()}
        for part in ("frame", "products", "attention"):
            one, four = ms[part, 1], ms[part, 4]
            result[f"{name}, {part}"] = [round(one, 2), round(four, 2), round(four / one, 2)]
        rest = [ms["frame", rows] - ms["products", rows] - ms["attention", rows] for rows in ROWS]
        result[f"{name}, rest"] = [*(round(r, 2) for r in rest), round(rest[1] / rest[0], 2)]
    for name, (one, four, ratio) in result.items():
        print(f"{name:<24} one {one:7.2f} ms, four {four:7.2f} ms: {ratio:.2f}")
    print(json.dumps({**result, "load": os.getloadavg()[0], **machine()}))


if __name__ == "__main__":
    main()
