"""A model of known answer and known duration: says the negated input, counts, takes its time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from app.events import Settings
from app.talk.engine import EngineReply
from moshi_mlx.codec.cpu_threads import DecodeBehind
from moshi_mlx.codec.interface import CodecStream
from moshi_mlx.errors import MoshiError
from moshi_mlx.output.whole_file import OutputError


class FakeTalk:
    def __init__(self, engine, settings: Settings) -> None:
        self.engine, self.seed = engine, settings.seed or 0
        self.closed, self.encodes_ahead = False, engine.encodes_ahead
        self.notes, self.prompt_until = engine.notes, engine.prompt_until

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        self.engine.holds.append(hold)
        self.engine.followings.append(following)
        return self.engine.step(frame)

    def keep(self, note: str) -> "FakeFile":
        self.engine.kept.append(FakeFile(note, threading.current_thread().name))
        return self.engine.kept[-1]

    def close(self) -> None:
        self.closed = True


class FakeFile:
    """A talk whose writing takes until `released`; who made it and who wrote it is written down."""

    def __init__(self, note: str, made_by: str) -> None:
        self.note, self.made_by, self.written_by = note, made_by, ""
        self.begun, self.released = threading.Event(), threading.Event()

    def write(self, path: Path, go_on: Callable[[], bool] = lambda: True) -> None:
        self.written_by = threading.current_thread().name
        self.begun.set()
        while not self.released.wait(0.005):
            if not go_on():
                raise OutputError(f"{path} wasn't written: there was no time for it")
        path.write_text(self.note)


class FakeEngine:
    """`step_seconds()` is each step's duration, spent by `sleep` (a virtual clock's, or real)."""

    name, recipe = "fake", "q4"
    mark, revision, adapter = "public key", "", ""
    encodes_ahead = False
    personas, voices, adapters = False, (), ()
    notes: tuple[str, ...] = ()
    prompt_until: int | None = None

    def __init__(self, step_seconds=lambda: 0.0, sleep=time.sleep) -> None:
        self.step_seconds, self.sleep = step_seconds, sleep
        self.holds: list[bool] = []
        self.followings: list[np.ndarray | None] = []
        self.talks: list[FakeTalk] = []
        self.kept: list[FakeFile] = []

    def begin(self, settings: Settings) -> FakeTalk:
        self.talks.append(FakeTalk(self, settings))
        return self.talks[-1]

    def step(self, frame: np.ndarray) -> EngineReply:
        seconds = self.step_seconds()
        if seconds:
            self.sleep(seconds)
        return EngineReply(pcm=-frame, text="", text_token=3)

    def keep_warm(self) -> None:
        pass

    def memory_bytes(self) -> int:
        return 0


class BehindTalk(FakeTalk):
    """The same with sound decoded beside the model, in a time of its own."""

    def __init__(self, engine, settings: Settings) -> None:
        super().__init__(engine, settings)
        self._behind = DecodeBehind()

    def step(self, frame, hold=False, following=None) -> EngineReply:
        start = time.monotonic()
        reply = super().step(frame, hold, following)
        self.engine.steps.append((start, time.monotonic()))
        return EngineReply(
            None, " word", 7, later=self._behind.begin(cast(CodecStream, self), reply.pcm)
        )

    def decode(self, pcm: np.ndarray) -> np.ndarray:
        start = time.monotonic()
        time.sleep(self.engine.decode_s)
        self.engine.begun += 1
        if self.engine.begun - 1 == self.engine.fails_at:
            raise MoshiError("rustymimi failed in decode_step: index out of bounds")
        self.engine.decodings.append((start, time.monotonic()))
        return pcm

    def close(self) -> None:
        self._behind.close()
        super().close()


class BehindEngine(FakeEngine):
    def __init__(self, step_s: float = 0.0, decode_s: float = 0.0, fails_at: int = -1) -> None:
        super().__init__(lambda: step_s)
        self.decode_s, self.fails_at = decode_s, fails_at
        self.steps, self.decodings, self.begun = [], [], 0

    def begin(self, settings: Settings) -> BehindTalk:
        talk = BehindTalk(self, settings)
        self.talks.append(talk)
        return talk
