"""What the codec costs a frame: beside the language model, or one after the other.

    python benchmarks/overlap.py [--layers 16] [--wait-ms 0]

rustymimi at full size with a random language model of width 512 whose frames wait already, as in
a recording or when a machine is behind: each part of a frame after the other; its encoding beside
the step before it (`following`); its decoding beside the next one too (`step_early`). `--wait-ms`
has the model wait for so long, without work for the CPU, as one that runs on a GPU does. And nano
with its MLX Mimi: one evaluation a frame against three. The ways take turns of some frames on
conversations of their own, of which the first ones aren't timed: then what runs beside has caught
up, and each frame that is timed pays for one encoding, one step and one decoding. Medians of the
runs and of their ratios. The last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np
from worker import ROOT, machine

sys.path.insert(0, str(ROOT))

import moshi_mlx
from app.machine.random_model import random_lm
from moshi_mlx import moshi as sessions
from moshi_mlx.codec.rust import RustCodec
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.generator import LmGenerator, Step, Submitted
from moshi_mlx.moshi import EarlyReply, Moshi, Session
from moshi_mlx.text.tokenizer import TextTokenizer
from tests.support.bench_shapes import SMALL
from tests.support.mimi_goldens import full_size_file

FRAME = 1920
TURN, SETTLE = 12, 4  # frames of a way until the next one's turn; of these untimed
SHAPE = SMALL | {
    "dim": 512, "num_heads": 8, "n_q": 16, "dep_q": 8, "text_card": 8000,
    "delays": [0, *[0, *[1] * 7] * 2],
}  # fmt: skip
Way = Callable[[Session, np.ndarray, np.ndarray], object]


def plain(session: Session, frame: np.ndarray, following: np.ndarray) -> object:
    return session.step(frame)


def ahead(session: Session, frame: np.ndarray, following: np.ndarray) -> object:
    return session.step(frame, following=following)


def beside(session: Session, frame: np.ndarray, following: np.ndarray) -> object:
    return session.step_early(frame, following=following)


def in_turn(session: Session, frame: np.ndarray, following: np.ndarray) -> object:
    shared, sessions.shares_evaluation = sessions.shares_evaluation, lambda stream: False
    try:
        return session.step(frame)
    finally:
        sessions.shares_evaluation = shared


def turn_ms(way: Way, session: Session, sound: np.ndarray) -> float:
    """Milliseconds of a frame, over those of a turn that are timed; nothing is left behind it."""
    begun, reply = 0.0, None
    for i in range(TURN):
        if i == SETTLE:
            begun = time.perf_counter()
        reply = way(session, sound[i], sound[i + 1])
    took = 1000 * (time.perf_counter() - begun) / (TURN - SETTLE)
    if isinstance(reply, EarlyReply):
        reply.sound.result()
    return took


def compare(moshi: Moshi, ways: dict[str, Way], runs: int, frames: int) -> dict[str, object]:
    """Milliseconds of a frame each way, and their ratios to the first way."""
    sound = 0.05 * np.random.default_rng(0).standard_normal((frames + 1, FRAME))
    sound = sound.astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        took: dict[str, list[float]] = {name: [] for name in ways}
        with ExitStack() as stack:
            talks = {name: stack.enter_context(moshi.session(seed=0)) for name in ways}
            for start in range(0, frames - TURN + 1, TURN):
                for name, way in ways.items():
                    took[name].append(turn_ms(way, talks[name], sound[start:]))
        for name, times in took.items():
            found[name].append(median(times))
    first, *others = found
    ratios = {n: [a / b for a, b in zip(found[n], found[first], strict=True)] for n in others}
    return {
        "ms": {name: round(median(times), 2) for name, times in found.items()},
        "ratio": {name: round(median(r), 3) for name, r in ratios.items()},
        "ratios": {name: [round(one, 3) for one in r] for name, r in ratios.items()},
    }


def parts_ms(moshi: Moshi, frames: int) -> dict[str, float]:
    """Each part of a frame by itself, for what the slowest of them and their sum would be."""
    stream, generator = moshi.codec.stream(), moshi.lm.generator(seed=0)
    frame = 0.05 * np.random.default_rng(0).standard_normal(FRAME).astype(np.float32)
    codes = stream.encode(frame)
    user = codes[: moshi.config.user_q]
    parts = {
        "encode": lambda: stream.encode(frame),
        "language model": lambda: generator.step(user),
        "decode": lambda: stream.decode(codes),
    }
    took: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(frames):
        for name, run in parts.items():
            begun = time.perf_counter()
            run()
            took[name].append(1000 * (time.perf_counter() - begun))
    return {name: round(median(times[SETTLE:]), 2) for name, times in took.items()}


@contextmanager
def waiting(wait_ms: float) -> Iterator[None]:
    """Language models wait for so long where they wait for their device."""
    finish = LmGenerator.finish

    def slow(self: LmGenerator, submitted: Submitted, others: Sequence[mx.array] = ()) -> Step:
        time.sleep(wait_ms / 1000)
        return finish(self, submitted, others)

    LmGenerator.finish = slow
    try:
        yield
    finally:
        LmGenerator.finish = finish


@contextmanager
def with_rustymimi(layers: int) -> Iterator[Moshi]:
    with full_size_file() as path:
        lm = random_lm(parse_config(SHAPE | {"num_layers": layers}, "width 512"), "fp32")
        tokenizer = TextTokenizer(Path(moshi_mlx.__file__).parent / "nano" / "tokenizer.model")
        yield Moshi(lm, RustCodec(path, 8), tokenizer, path.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=5 * TURN)
    parser.add_argument("--layers", type=int, default=16, help="of the model beside rustymimi")
    parser.add_argument("--wait-ms", type=float, default=0.0, help="of that model, see above")
    args = parser.parse_args()
    found: dict[str, object] = {}
    with with_rustymimi(args.layers) as moshi, waiting(args.wait_ms):
        ways = {"in turn": plain, "encoding ahead": ahead, "and decoding behind": beside}
        found["rustymimi"] = compare(moshi, ways, args.runs, args.frames)
        found["rustymimi, parts"] = parts_ms(moshi, args.frames)
        print("rustymimi", found["rustymimi"], found["rustymimi, parts"], flush=True)
    nano = moshi_mlx.load("nano", codec="mlx")
    nano.warm_up()
    ways = {"three evaluations": in_turn, "one": plain}
    found["MLX Mimi"] = compare(nano, ways, args.runs, 4 * args.frames)
    print("MLX Mimi", found["MLX Mimi"])
    print(json.dumps({"machine": machine(), **found}))


if __name__ == "__main__":
    main()
