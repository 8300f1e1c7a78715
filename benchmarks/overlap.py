"""What the codec costs a frame: beside the language model, or one after the other.

    python benchmarks/overlap.py

rustymimi at full size with a random language model of width 512 whose frames wait already, as in
a recording or when a machine is behind: each frame's encoding beside the step before it
(`following`), against none. And nano with its MLX Mimi: one evaluation a frame against three. The
two ways take turns of a few frames on conversations of their own; medians and ratios. The
last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from worker import ROOT, machine

sys.path.insert(0, str(ROOT))

import moshi_mlx
from app.bench_random import random_lm
from moshi_mlx import moshi as sessions
from moshi_mlx.codec import RustCodec
from moshi_mlx.config import parse_config
from moshi_mlx.moshi import Moshi, Session
from moshi_mlx.text import TextTokenizer
from tests.bench_shapes import SMALL
from tests.mimi_goldens import full_size_file

FRAME = 1920
TURN = 5  # frames
SHAPE = SMALL | {
    "dim": 512, "num_heads": 8, "num_layers": 16, "n_q": 16, "dep_q": 8, "text_card": 8000,
    "delays": [0, *[0, *[1] * 7] * 2],
}  # fmt: skip
Way = Callable[[Session, np.ndarray, np.ndarray], None]


def ahead(session: Session, frame: np.ndarray, following: np.ndarray) -> None:
    session.step(frame, following=following)


def plain(session: Session, frame: np.ndarray, following: np.ndarray) -> None:
    session.step(frame)


def in_turn(session: Session, frame: np.ndarray, following: np.ndarray) -> None:
    shared, sessions.shares_evaluation = sessions.shares_evaluation, lambda stream: False
    try:
        session.step(frame)
    finally:
        sessions.shares_evaluation = shared


def compare(moshi: Moshi, ways: tuple[Way, Way], runs: int, frames: int) -> dict[str, object]:
    """Milliseconds of a frame the first way and the second, and their ratios."""
    sound = 0.05 * np.random.default_rng(0).standard_normal((frames + 1, FRAME))
    sound = sound.astype(np.float32)
    pairs = []
    for _ in range(runs):
        took: list[list[float]] = [[], []]
        with moshi.session(seed=0) as one, moshi.session(seed=0) as other:
            for start in range(0, frames, TURN):
                for side, (session, way) in enumerate(zip((one, other), ways, strict=True)):
                    for i in range(start, min(start + TURN, frames)):
                        begun = time.perf_counter()
                        way(session, sound[i], sound[i + 1])
                        took[side].append(1000 * (time.perf_counter() - begun))
        pairs.append([median(times[TURN:]) for times in took])
    ratios = [a / b for a, b in pairs]
    return {
        "first_ms": round(median(a for a, _ in pairs), 2),
        "second_ms": round(median(b for _, b in pairs), 2),
        "ratio": round(median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
    }


@contextmanager
def with_rustymimi() -> Iterator[Moshi]:
    with full_size_file() as path:
        lm = random_lm(parse_config(SHAPE, "width 512"), "fp32")
        tokenizer = TextTokenizer(Path(moshi_mlx.__file__).parent / "nano" / "tokenizer.model")
        yield Moshi(lm, RustCodec(path, 8), tokenizer, path.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    found: dict[str, object] = {}
    with with_rustymimi() as moshi:
        name = "rustymimi: encoding ahead / in turn"
        found[name] = compare(moshi, (ahead, plain), args.runs, args.frames)
        print(name, found[name], flush=True)
    nano = moshi_mlx.load("nano", codec="mlx")
    nano.warm_up()
    name = "MLX Mimi: one evaluation / three"
    found[name] = compare(nano, (plain, in_turn), args.runs, 4 * args.frames)
    print(name, found[name])
    print(json.dumps({"machine": machine(), **found}))


if __name__ == "__main__":
    main()
