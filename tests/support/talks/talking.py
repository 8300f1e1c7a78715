"""A conversation on the model's thread with a fake model, whose events and replies are kept."""

import time

import numpy as np

from app.audio.stream.port import QueuePort
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES
from tests.support.fakes.fake_engine import FakeEngine


def frame(value):
    return np.full(FRAME_SAMPLES, value, np.float32)


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


class Talking:
    """A started session on a QueuePort whose events and replies are kept."""

    def __init__(self, engine=None):
        self.events, self.replies = [], []
        self.session = TalkSession(lambda: engine or FakeEngine())
        self.session.subscribe(self.events.append)
        self.port = QueuePort(self.replies.append)
        self.session.start()

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]
