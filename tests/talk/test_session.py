"""The session with a fake model: conversations, events, failures, commands."""

import threading
import time

import numpy as np
import pytest

from app.audio.stream.port import QueuePort
from app.events import (
    ConversationEnded,
    ConversationStarted,
    Failed,
    FrameDone,
    Ready,
    Refused,
    Settings,
    Stopped,
)
from app.talk.conversation import splice
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.errors import MoshiError
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.talks.talking import Talking, frame, wait_for


@pytest.fixture
def talking():
    made, before = [], set(threading.enumerate())

    def make(engine=None):
        made.append(Talking(engine))
        return made[-1]

    yield make
    for one in made:
        assert one.session.stop()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name == "moshi-model"]


def test_every_frame_in_comes_back_as_its_own_reply(talking):
    talk = talking()
    talk.session.begin(talk.port, Settings(seed=5))
    wait_for(lambda: talk.of(ConversationStarted))
    spoken = np.arange(5 * FRAME_SAMPLES, dtype=np.float32) / 1e5
    for block in np.array_split(spoken, 37):  # blocks of any size
        talk.port.push_input(block)
        time.sleep(0.001)
    wait_for(lambda: len(talk.replies) == 5)
    np.testing.assert_array_equal(np.concatenate(talk.replies), -spoken)  # the fake negates
    assert [event.index for event in talk.of(FrameDone)] == list(range(5))
    assert talk.of(ConversationStarted)[0].seed == 5
    assert talk.events[0].__class__ is Ready


def test_conversations_follow_each_other_with_clean_state_and_new_seeds(talking):
    talk = talking()
    for number in (1, 2, 3):
        talk.session.begin(talk.port, Settings())
        wait_for(lambda n=number: len(talk.of(ConversationStarted)) == n)
        talk.port.push_input(frame(0.1))
        wait_for(
            lambda n=number: talk.of(FrameDone)[-1:] and talk.of(FrameDone)[-1].conversation == n
        )
    assert [event.index for event in talk.of(FrameDone)] == [0, 0, 0]
    assert len({event.seed for event in talk.of(ConversationStarted)}) == 3
    talk.session.hang_up()
    wait_for(lambda: len(talk.of(ConversationEnded)) == 3)
    reasons = [event.reason for event in talk.of(ConversationEnded)]
    assert reasons == ["new conversation", "new conversation", "hung up"]
    assert talk.session.status.state == "idle"


def test_end_of_input_is_heard_out_first(talking):
    talk = talking()
    talk.session.begin(talk.port, Settings())
    wait_for(lambda: talk.of(ConversationStarted))
    for _ in range(2):
        talk.port.push_input(frame(0.1))
    talk.port.end_input()
    wait_for(lambda: talk.of(ConversationEnded))
    ended = talk.of(ConversationEnded)[0]
    assert (ended.reason, ended.frames) == ("end of input", 2)


def test_settings_the_model_refuses_leave_the_session_alive(talking):
    engine = FakeEngine()
    begin, engine.begin = (
        engine.begin,
        lambda settings: (_ for _ in ()).throw(MoshiError("text_temperature must be >= 0")),
    )
    talk = talking(engine)
    talk.session.begin(talk.port, Settings(text_temperature=-1.0))
    wait_for(lambda: talk.of(Refused))
    assert talk.of(Refused)[0].message == "text_temperature must be >= 0"
    engine.begin = begin
    talk.session.begin(talk.port, Settings())
    wait_for(lambda: talk.of(ConversationStarted))


@pytest.mark.parametrize("where", ["load", "step"])
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("shapes differ\nsecond line"), "ValueError: shapes differ"),
        (MoshiError("no such model. Try: moshi models"), "no such model. Try: moshi models"),
    ],
)
def test_an_exception_ends_the_session_with_one_line(where, error, line):
    engine = FakeEngine()

    def broken(*_args, **_kwargs):
        raise error

    talk = Talking.__new__(Talking)
    talk.events, talk.replies = [], []
    if where == "step":
        engine.step = broken
    talk.session = TalkSession(broken if where == "load" else lambda: engine)
    talk.session.subscribe(talk.events.append)
    talk.port = QueuePort(talk.replies.append)
    talk.session.start()
    talk.session.begin(talk.port, Settings())
    if where == "step":
        wait_for(lambda: talk.of(ConversationStarted))
        talk.port.push_input(frame(0.1))
    assert talk.session.join(60.0)
    assert [event.message for event in talk.of(Failed)] == [line]
    assert isinstance(talk.events[-1], Stopped)
    assert talk.session.status.state == "failed" and talk.session.failure is error


def test_a_panic_of_a_native_codec_is_a_failure_too(talking):
    class PanicException(BaseException):  # what pyo3 raises
        pass

    engine = FakeEngine()

    def panic(_frame):
        raise PanicException("index out of bounds")

    engine.step = panic
    talk = talking(engine)
    talk.session.begin(talk.port, Settings())
    wait_for(lambda: talk.of(ConversationStarted))
    talk.port.push_input(frame(0.1))
    assert talk.session.join(60.0)
    assert talk.of(Failed)[0].message == "PanicException: index out of bounds"


def test_muted_the_model_hears_silence_and_goes_on(talking):
    talk = talking()
    talk.session.mute(True)
    talk.session.begin(talk.port, Settings())
    wait_for(lambda: talk.of(ConversationStarted))
    talk.port.push_input(frame(0.5))
    wait_for(lambda: talk.of(FrameDone))
    assert not talk.of(FrameDone)[0].heard.any()


def test_splice_keeps_the_newest_frame_and_has_no_step_at_the_cut():
    time_s = np.arange(3 * FRAME_SAMPLES) / 24_000
    stretch = np.sin(2 * np.pi * 100 * time_s).astype(np.float32)
    out = splice(stretch)
    assert len(out) == FRAME_SAMPLES
    np.testing.assert_array_equal(out[120:], stretch[-FRAME_SAMPLES + 120 :])
    assert abs(out[0] - stretch[0]) < 1e-6  # goes on where the last frame ended
    assert np.max(np.abs(np.diff(out))) < 0.05


def test_an_idle_model_is_kept_warm_for_a_time():
    """Between conversations, and while a device gives nothing; then it may go cold."""
    beats = []

    class Engine(FakeEngine):
        def keep_warm(self):
            beats.append(time.monotonic())

    session = TalkSession(lambda: Engine(lambda: 0.0), warm_beats=2)
    session.start()
    deadline = time.monotonic() + 60
    while len(beats) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.7)
    assert len(beats) == 2, "no more than it was told"
    session.begin(QueuePort(lambda pcm: None), Settings())
    while len(beats) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(beats) >= 3, "a conversation without input"
    session.stop()
