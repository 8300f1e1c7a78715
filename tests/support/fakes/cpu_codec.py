"""A codec as rustymimi is one, on the CPU and of known cost, and a small model to go with it."""

import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.hub import NANO
from moshi_mlx.lm.model import Lm
from moshi_mlx.moshi import Moshi
from moshi_mlx.text.tokenizer import TextTokenizer
from tests.support.models.bench_shapes import SMALL

FRAME = 1920
SIXTEEN = {"n_q": 16, "dep_q": 8, "delays": [0, *[0, *[1] * 7] * 2]}  # Kyutai's 8 + 8 codebooks
SLOW_S = 0.03
Span = tuple[float, float]


def overlaps(some: list[Span], others: list[Span]) -> int:
    """How many of `some` share time with any of `others`."""
    return sum(any(a < d and c < b for c, d in others) for a, b in some)


class CpuCodec:
    """What it decodes depends on all frames before."""

    num_codebooks, frame_samples, bins = 8, FRAME, 2048

    def __init__(
        self,
        decode_s: float = 0.0,
        fails_at: int = -1,
        while_decoding: Callable[[int], None] = lambda sounds: None,
    ) -> None:
        """while_decoding: called in each decoding with the number of those before it."""
        self.decode_s, self.fails_at = decode_s, fails_at
        self.while_decoding = while_decoding
        self.decoded: list[Span] = []
        self.threads: set[str] = set()
        self.may_decode = threading.Event()
        self.may_decode.set()

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        return np.ones((8, len(pcm) // FRAME), np.int32)

    def stream(self) -> "CpuStream":
        return CpuStream(self)


class CpuStream:
    graph = None

    def __init__(self, codec: CpuCodec) -> None:
        self.codec, self.heard, self.frames = codec, 0.0, 0  # frames begun

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return np.arange(8, dtype=np.int32) + int(1000 * abs(float(frame[0])))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        start = time.monotonic()
        assert self.codec.may_decode.wait(60.0)
        self.codec.while_decoding(self.frames)
        time.sleep(self.codec.decode_s)  # lets go of the GIL, as rustymimi does
        self.frames += 1
        if self.frames - 1 == self.codec.fails_at:
            raise MoshiError("rustymimi failed in decode_step: index out of bounds")
        self.heard = 0.9 * self.heard + float(codes.sum())
        self.codec.threads.add(threading.current_thread().name)
        self.codec.decoded.append((start, time.monotonic()))
        return np.full(FRAME, self.heard, np.float32)


@cache
def small_lm() -> Lm:
    """One for all tests of a process: its step is traced once, its weights never change."""
    return random_lm(parse_config(SMALL | SIXTEEN, "small"), "fp32")


def moshi_with(codec: CpuCodec) -> Moshi:
    return Moshi(small_lm(), codec, TextTokenizer(NANO / "tokenizer.model"), NANO)
