"""A model of known answer and known duration: says the negated input, counts, takes its time."""

import time

import numpy as np

from app.engine import Reply
from app.events import Settings


class FakeTalk:
    def __init__(self, engine, settings: Settings) -> None:
        self.engine, self.seed = engine, settings.seed or 0
        self.closed, self.encodes_ahead = False, engine.encodes_ahead

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> Reply:
        self.engine.holds.append(hold)
        self.engine.followings.append(following)
        return self.engine.step(frame)

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """`step_seconds()` is each step's duration, spent by `sleep` (a virtual clock's, or real)."""

    name, recipe = "fake", "q4"
    encodes_ahead = False

    def __init__(self, step_seconds=lambda: 0.0, sleep=time.sleep) -> None:
        self.step_seconds, self.sleep = step_seconds, sleep
        self.holds: list[bool] = []
        self.followings: list[np.ndarray | None] = []
        self.talks: list[FakeTalk] = []

    def begin(self, settings: Settings) -> FakeTalk:
        self.talks.append(FakeTalk(self, settings))
        return self.talks[-1]

    def step(self, frame: np.ndarray) -> Reply:
        seconds = self.step_seconds()
        if seconds:
            self.sleep(seconds)
        return Reply(pcm=-frame, text="", text_token=3)

    def memory_bytes(self) -> int:
        return 0
