"""`moshi chat` with a model or a codec that raises in the middle of a talk: a process of its own.

The fault comes in where the command is given what makes its engine; all else is the command's.
What is left at the end goes to stderr.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import moshi_mlx
from app.commands import chat
from app.commands.signals import Signals
from app.talk.engine import EngineReply, MakeEngine
from app.talk.moshi_engine import MoshiEngine, MoshiTalk, engine_maker
from moshi_mlx.hub import NANO
from moshi_mlx.mimi.model import Mimi, MimiStream
from moshi_mlx.moshi import Moshi
from tests.support.fakes.cpu_codec import CpuCodec, CpuStream

AFTER_FRAMES = 10


class PanicException(BaseException):
    """As native code raises it: no Exception."""


def said(error: BaseException) -> BaseException:
    print("raised at", time.monotonic(), file=sys.stderr)
    return error


class FaultyTalk(MoshiTalk):
    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        if self._session.frames == AFTER_FRAMES:
            raise said(RuntimeError("[metal] no memory\n at"))
        return super().step(frame, hold, following)


class FaultyEngine(MoshiEngine):
    def begin(self, settings) -> MoshiTalk:
        talk = super().begin(settings)
        return FaultyTalk(talk._session, talk.notes)


class PanickingStream(MimiStream):
    """Decodes within the language model's graph."""

    frames = 0

    def decode_lazy(self, codes):
        self.frames += 1
        if self.frames > AFTER_FRAMES:
            raise said(PanicException("index out of bounds"))
        return super().decode_lazy(codes)


class PanickingMimi:
    def __init__(self, mimi: Mimi) -> None:
        self._mimi = mimi
        self.num_codebooks, self.bins = mimi.num_codebooks, mimi.bins
        self.frame_samples = mimi.frame_samples

    def stream(self) -> MimiStream:
        return PanickingStream(self._mimi)


class PanickingBeside(CpuCodec):
    """Decodes on a thread of its own, as rustymimi does."""

    def stream(self) -> CpuStream:
        return Stream(self)


class Stream(CpuStream):
    def encode(self, frame: np.ndarray) -> np.ndarray:
        return np.zeros(8, np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        if self.frames == self.codec.fails_at:
            said(PanicException())
        return super().decode(codes)


def with_codec(codec: Callable[[Mimi], object]) -> Callable[[], Moshi]:
    def load() -> Moshi:
        moshi = moshi_mlx.load("nano", codec="mlx")
        return Moshi(moshi.lm, codec(moshi.codec), moshi.tokenizer, Path(NANO))  # type: ignore

    return load


FAULTS: dict[str, MakeEngine] = {
    "model": lambda: FaultyEngine(moshi_mlx.load("nano", codec="mlx"), "nano", "bf16"),
    "codec": engine_maker(with_codec(PanickingMimi), "nano", "bf16"),
    "codec beside": engine_maker(
        with_codec(lambda mimi: PanickingBeside(0.01, AFTER_FRAMES)), "nano", "bf16"
    ),
}


def main() -> int:
    fault, _, *given = sys.argv[1:]  # "chat" stands before its options
    parser = argparse.ArgumentParser()
    chat.configure(parser)
    args = chat.parse(parser, given)
    with Signals(heed_nohup=True):
        status = chat.run(args, lambda args, dtype: FAULTS[fault])
    others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    print("threads left:", others, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
