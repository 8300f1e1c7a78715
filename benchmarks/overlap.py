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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from worker import ROOT, machine

sys.path.insert(0, str(ROOT))

import moshi_mlx
from app.machine.random_model import random_lm
from moshi_mlx.codec.rust import RustCodec
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.generator import Forced, LmGenerator, Step
from moshi_mlx.moshi import EarlyReply, Moshi, Session
from moshi_mlx.session.codec_beside import CodecBeside
from moshi_mlx.session.path import MakePath, path_for
from moshi_mlx.text.tokenizer import TextTokenizer
from tests.support.models.bench_shapes import SMALL
from tests.support.models.mimi_goldens import full_size_file

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


class Waiting:
    """A generator whose steps wait for so long, as one waits for its device."""

    def __init__(self, inner: LmGenerator, wait_ms: float) -> None:
        self.inner, self.wait_ms = inner, wait_ms

    @property
    def steps(self) -> int:
        return self.inner.steps

    def step(self, user_codes: np.ndarray, forced: Forced | None = None) -> Step:
        time.sleep(self.wait_ms / 1000)
        return self.inner.step(user_codes, forced)

    def warm_up(self) -> None:
        self.inner.warm_up()


def waiting(wait_ms: float) -> MakePath:
    """The codec beside a model that waits."""
    return lambda generator, stream, user_q: CodecBeside(
        Waiting(generator, wait_ms), stream, user_q
    )


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


def compare(
    moshi: Moshi, ways: dict[str, tuple[Way, MakePath]], runs: int, frames: int
) -> dict[str, object]:
    """Milliseconds of a frame each way, and their ratios to the first way."""
    sound = 0.05 * np.random.default_rng(0).standard_normal((frames + 1, FRAME))
    sound = sound.astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        took: dict[str, list[float]] = {name: [] for name in ways}
        with ExitStack() as stack:
            talks = {
                name: stack.enter_context(Session(moshi, seed=0, make_path=make_path))
                for name, (_, make_path) in ways.items()
            }
            for start in range(0, frames - TURN + 1, TURN):
                for name, (way, _) in ways.items():
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


def parts_ms(moshi: Moshi, frames: int, wait_ms: float) -> dict[str, float]:
    """Each part of a frame by itself, for what the slowest of them and their sum would be."""
    stream, generator = moshi.codec.stream(), Waiting(moshi.lm.generator(seed=0), wait_ms)
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
    with with_rustymimi(args.layers) as moshi:
        path = waiting(args.wait_ms)
        ways = {
            "in turn": (plain, path),
            "encoding ahead": (ahead, path),
            "and decoding behind": (beside, path),
        }
        found["rustymimi"] = compare(moshi, ways, args.runs, args.frames)
        found["rustymimi, parts"] = parts_ms(moshi, args.frames, args.wait_ms)
        print("rustymimi", found["rustymimi"], found["rustymimi, parts"], flush=True)
    nano = moshi_mlx.load("nano", codec="mlx")
    nano.warm_up()
    ways = {"three evaluations": (plain, CodecBeside), "one": (plain, path_for)}
    found["MLX Mimi"] = compare(nano, ways, args.runs, 4 * args.frames)
    print("MLX Mimi", found["MLX Mimi"])
    print(json.dumps({"machine": machine(), **found}))


if __name__ == "__main__":
    main()
