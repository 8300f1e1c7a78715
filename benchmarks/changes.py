"""What each thing that makes a frame fast brings: the same model with one of them taken back.

    python benchmarks/changes.py

At the 7B's layer counts (32 + 8 x 6) and vocabularies with a full context. Each variant takes turns
with the frame as it is, in one process; ratios are medians of the runs. Kernels as in kernels.py:
taken back / as it is. What a variant says with a greedy sampler must be what the frame says. The
last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from graph import as_on_metal, kernels
from shapes import AUDIO, TEXT, raw_config
from worker import ROOT, machine, timed_ms

sys.path.insert(0, str(ROOT))

from app.machine.random_model import random_lm
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm import compiled_step, model, sampling
from moshi_mlx.lm.compiled_step import FrameFunctions
from moshi_mlx.lm.depth import DepthTransformer
from moshi_mlx.lm.generator import LmGenerator
from moshi_mlx.lm.layers import linear, residual, transformer
from moshi_mlx.lm.layers.embedding import StackedEmbedding
from moshi_mlx.lm.layers.transformer import Attention
from moshi_mlx.lm.model import Lm
from moshi_mlx.lm.sampling import Draws, Sampler

MODELS = {"narrow": (64, 4), "heads of 64": (256, 4)}  # name -> width, heads
TURN, WARM_FRAMES = 3, 3
SAMPLERS = {
    "text_temperature": TEXT[0],
    "text_top_k": TEXT[1],
    "audio_temperature": AUDIO[0],
    "audio_top_k": AUDIO[1],
}


def table_a_codebook(self: StackedEmbedding, rows: mx.array) -> mx.array:
    total = self.emb(rows[:1])
    for k in range(1, self.num_codebooks):
        total = total + self.emb(rows[k : k + 1])
    return total


def product_a_slice(self: DepthTransformer, temporal: mx.array) -> list[mx.array]:
    weights = mx.split(self.linear_in.weight, self.config.num_weight_sets)
    return [temporal @ weights[w].T for w in self.config.schedule]


def two_rotations(
    self: Attention, x: mx.array, rotations: mx.array | None, dtype: mx.Dtype
) -> tuple[mx.array, mx.array]:
    qkv = transformer.linear_of(x, self.in_proj)
    q, k, v = mx.split(qkv.reshape(3, self.config.num_heads, 1, self.config.head_dim), 3)
    if rotations is not None:
        q, k = (self.rotate(part, rotations[1:2]) for part in (q, k))
    return q, mx.concatenate([k, v])


def ring_by_where(ring: tuple[mx.array, ...], kv: mx.array, slot: mx.array) -> tuple[mx.array, ...]:
    """A write that makes a new ring: every frame moves the whole cache."""
    slots = mx.arange(ring[0].shape[2])[:, None]
    return tuple(mx.where(slots == slot, kv, part) for part in ring)


def residual_apart(residual: mx.array, x: mx.array, layer: nn.Module) -> mx.array:
    return residual + transformer.linear_of(x, layer)


def divide_first(
    self: Sampler, logits: mx.array, temperature: mx.array, noise: mx.array
) -> mx.array:
    if self.greedy:
        return mx.argmax(logits, axis=-1)
    logits = logits.astype(mx.float32) / temperature
    smallest = sampling.kth_largest(logits, self.top_k)
    return mx.argmax(mx.where(logits >= smallest, logits, -mx.inf) + noise, axis=-1)


def noise_a_draw(key: mx.array, draws: Draws, config: LmConfig) -> list[mx.array]:
    keys = mx.split(mx.random.split(key, 1 + config.dep_q), 1 + config.dep_q)
    sizes = [config.text_card_out] + [config.card] * config.dep_q
    return [mx.random.gumbel((1, n), key=k[0]) for k, n in zip(keys, sizes, strict=True)]


CHANGES: dict[str, tuple[Any, str, Any]] = {  # what stands there now -> owner, name, as it was
    "one compiled function": (
        compiled_step,
        "can_compile",
        lambda: False,
    ),
    "one table for 16 codebooks": (StackedEmbedding, "__call__", table_a_codebook),
    "one product for 8 depth inputs": (DepthTransformer, "inputs", product_a_slice),
    "q, k and v rotated in one call": (Attention, "project", two_rotations),
    "rings written in place": (transformer, "write", ring_by_where),
    "residual inside the product": (residual, "linear_plus", residual_apart),
    "matrices turned once": (linear.Linear, "transposed", property(lambda self: self.weight.T)),
    "noise of all draws at once": (model, "frame_noise", noise_a_draw),
    "top-k before the division": (Sampler, "__call__", divide_first),
    "top-k of text in blocks": (sampling, "blocks_for", lambda V, k: 1),
}
Variant = Callable[[], Any]


class Frame:
    """A conversation with a full context; `variant` is in force whenever it steps."""

    def __init__(self, lm: Lm, variant: Variant, **options: Any) -> None:
        self.lm, self.variant, self.options = lm, variant, options
        self.codes = np.zeros(lm.config.user_q, np.int32)
        self.generator = self.fresh(**SAMPLERS)

    def fresh(self, **sampling_options: float) -> LmGenerator:
        self.lm.functions = FrameFunctions(self.lm)  # the others were traced with other variants
        generator = self.lm.generator(seed=0, **sampling_options, **self.options)
        generator.skip(self.lm.config.transformer.context or 0)
        return generator

    def times(self) -> tuple[float, float]:
        """Milliseconds until it is submitted, and of the rest."""
        with self.variant():
            submitted: list[Any] = []
            build = timed_ms(lambda: submitted.append(self.generator.submit(self.codes)))
            return build, timed_ms(lambda: self.generator.finish(submitted[0]))

    def kernels(self) -> int:
        with self.variant(), as_on_metal():
            generator = self.fresh(**SAMPLERS)
            generator.step(self.codes)
            arrays = generator.submit(self.codes).arrays()
            return sum(kernels([*arrays, *generator.buffers.arrays()]).values())

    def said(self) -> list[list[int]]:
        with self.variant():
            generator = self.fresh(text_temperature=0.0, audio_temperature=0.0)
            steps = [generator.step(self.codes) for _ in range(4)]
            return [[step.text_token, *step.sampled.tolist()] for step in steps]


@contextmanager
def nothing() -> Iterator[None]:
    yield


def compare(now: Frame, back: Frame, runs: int, frames: int) -> dict[str, Any]:
    ratios: dict[str, list[float]] = {"frame": [], "host": []}
    for side in (now, back):
        for _ in range(WARM_FRAMES):
            side.times()
    for _ in range(runs):
        took: dict[str, list[tuple[float, float]]] = {"now": [], "back": []}
        for turn in range(-(-frames // TURN)):
            for name in ("now", "back")[:: -1 if turn % 2 else 1]:
                side = now if name == "now" else back
                took[name] += [side.times() for _ in range(TURN)]
        of = {name: np.median(np.array(times), axis=0) for name, times in took.items()}
        ratios["host"].append(float(of["back"][0] / of["now"][0]))
        ratios["frame"].append(float(of["back"].sum() / of["now"].sum()))
    return {
        **{what: round(median(values), 3) for what, values in ratios.items()},
        "runs": {what: [round(v, 3) for v in values] for what, values in ratios.items()},
        "kernels": [back.kernels(), now.kernels()],
        "same_tokens": back.said() == now.said(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=9, help="of each side in each run")
    parser.add_argument("--only", help="changes whose name holds this")
    args = parser.parse_args()
    lms = {
        name: random_lm(parse_config(raw_config(*sizes)), "fp32") for name, sizes in MODELS.items()
    }
    variants: dict[str, tuple[Lm, Callable[[], AbstractContextManager], dict[str, Any]]] = {
        name: (lms["narrow"], partial(patch.object, *what), {}) for name, what in CHANGES.items()
    }
    variants["not chosen: 8-bit keys and values"] = (
        *(lms["heads of 64"], nothing, {"kv_bits": 8}),
    )
    results = {}
    for name, (lm, variant, options) in variants.items():
        if args.only and args.only not in name:
            continue
        row = compare(Frame(lm, nothing), Frame(lm, variant, **options), args.runs, args.frames)
        results[name] = row
        low, high = min(row["runs"]["frame"]), max(row["runs"]["frame"])
        print(
            f"{name:<42} frame x {row['frame']:.2f} ({low:.2f} to {high:.2f})  "
            f"host x {row['host']:.2f}  kernels {row['kernels'][0]} / {row['kernels'][1]}  "
            f"{'same tokens' if row['same_tokens'] else 'OTHER TOKENS'}",
            flush=True,
        )
    print(json.dumps({**results, "mlx": version("mlx"), **machine()}))


if __name__ == "__main__":
    main()
