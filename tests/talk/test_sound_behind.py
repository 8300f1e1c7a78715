"""Conversations whose sound is decoded beside the model: kept up, in order, nothing lost."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from app.audio.stream.port import QueuePort
from app.audio.virtual_port import VirtualPort
from app.events import ConversationEnded, Failed, FrameDone, Notice, Settings, Stopped
from app.recording.recorder import Recorder
from app.talk.engine import EngineReply
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES
from tests.support.fakes.cpu_codec import overlaps
from tests.support.fakes.fake_engine import BehindEngine, FakeEngine, FakeTalk
from tests.support.processes.chat_process import check_take
from tests.support.talks.numbered import Numbers
from tests.support.talks.talking import frame, wait_for

SLOW_S = 0.05


class Talking:
    """A session on a port that never drops; who plays and who tells is kept."""

    def __init__(self, engine, *listeners) -> None:
        self.events, self.replies, self.at_once = [], [], 0
        self.players, self.most_at_once = set(), 0
        self.play_fails_at = -1
        self.session = TalkSession(lambda: engine)
        for listener in (*listeners, self.events.append):
            self.session.subscribe(listener)
        self.port = QueuePort(self._play, max_backlog_samples=10**6)
        self.session.start()

    def _play(self, pcm: np.ndarray) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if len(self.replies) == self.play_fails_at:
            self.play_fails_at = -1  # once
            raise OSError("the speaker is on fire")
        self.players.add(threading.current_thread().name)
        self.replies.append(pcm)
        self.at_once -= 1

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def say(self, frames: int, end: bool = True) -> None:
        self.session.begin(self.port, Settings(seed=1))
        wait_for(lambda: self.session.status.state != "loading" and self.events[1:])
        for n in range(frames):
            self.port.push_input(frame(0.01 * (n + 1)))
        if end:
            self.port.end_input()


@pytest.fixture
def talking():
    made, before = [], set(threading.enumerate())

    def make(engine, *listeners):
        made.append(Talking(engine, *listeners))
        return made[-1]

    yield make
    for one in made:
        assert one.session.stop()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("moshi-")]


class WaitsForTheSoundBefore(BehindEngine):
    """Each step goes on once the sound of the step before has been played."""

    played: Callable[[], int]

    def step(self, frame: np.ndarray) -> EngineReply:
        wait_for(lambda: self.played() == len(self.steps))
        return super().step(frame)


def test_sound_is_played_while_the_model_is_at_the_next_frame(talking) -> None:
    engine = WaitsForTheSoundBefore(SLOW_S, SLOW_S)
    talk = talking(engine)
    engine.played = lambda: len(talk.replies)
    talk.say(12)
    wait_for(lambda: talk.of(ConversationEnded))
    assert overlaps(engine.decodings, engine.steps) == 11, "the last has no step beside it"
    assert talk.players == {"moshi-decode_0"} and talk.most_at_once == 1
    assert [round(-100 * float(pcm[0])) for pcm in talk.replies] == list(range(1, 13))
    frames = talk.of(FrameDone)
    assert [one.index for one in frames] == list(range(12))
    lags_ms = [one.lag_ms - one.wait_ms for one in frames]
    assert min(lags_ms) > 1.9 * 1000 * SLOW_S, "a reply takes both"
    ended = talk.of(ConversationEnded)[0]
    assert (ended.reason, ended.frames) == ("end of input", 12)


@pytest.mark.parametrize("fails_at", [0, 3, 11])
def test_a_decoder_that_raises_ends_the_talk_with_one_line(talking, tmp_path, fails_at) -> None:
    recorder = Recorder(tmp_path)
    talk = talking(BehindEngine(0.01, 0.02, fails_at), recorder)
    talk.say(12)
    assert talk.session.join(60.0)
    assert [event.message for event in talk.of(Failed)] == [
        "rustymimi failed in decode_step: index out of bounds"
    ]
    assert isinstance(talk.events[-1], Stopped) and talk.session.status.state == "failed"
    ended = talk.of(ConversationEnded)[0]
    assert (ended.reason, ended.frames) == ("failed", fails_at)
    assert len(talk.replies) == len(talk.of(FrameDone)) == fails_at
    recorder.close()
    manifest = check_take(recorder.takes[0])
    assert (manifest["ended"], manifest["frames"]) == ("failed", fails_at)


def test_what_playing_raises_on_the_decoders_thread_is_the_end_too(talking) -> None:
    talk = talking(BehindEngine(0.0, 0.01))
    talk.play_fails_at = 2
    talk.say(6)
    assert talk.session.join(60.0)
    assert [event.message for event in talk.of(Failed)] == ["OSError: the speaker is on fire"]
    assert len(talk.replies) == len(talk.of(FrameDone)) == talk.of(ConversationEnded)[0].frames == 2


def test_a_decoder_that_raises_while_nobody_speaks_is_told_within_a_second(talking) -> None:
    talk = talking(BehindEngine(0.0, 0.05, fails_at=0))
    talk.say(1, end=False)
    wait_for(lambda: talk.of(Failed))


def test_the_recording_has_every_frame_of_both_sides_in_step(talking, tmp_path) -> None:
    import soundfile

    recorder = Recorder(tmp_path)
    talk = talking(BehindEngine(0.005, 0.02), recorder)
    talk.say(12)
    wait_for(lambda: talk.of(ConversationEnded))
    recorder.close()
    assert check_take(recorder.takes[0])["frames"] == 12
    sound, _ = soundfile.read(recorder.takes[0] / "talk.wav")
    np.testing.assert_allclose(sound[:, 0], -sound[:, 1], atol=1e-4)
    np.testing.assert_allclose(sound[::FRAME_SAMPLES, 0], 0.01 * np.arange(1, 13), atol=1e-4)


def test_a_new_conversation_begins_after_the_last_sound_of_the_old_one(talking) -> None:
    talk = talking(BehindEngine(0.01, 0.04))
    talk.say(6, end=False)
    wait_for(lambda: len(talk.of(FrameDone)) == 2)
    talk.session.begin(talk.port, Settings(seed=2))
    wait_for(lambda: talk.session.status.conversation == 2 or len(talk.of(ConversationEnded)) == 1)
    told = len(talk.of(FrameDone))
    assert talk.of(ConversationEnded)[0].frames == told == len(talk.replies)
    talk.port.push_input(frame(0.5))
    wait_for(lambda: talk.of(FrameDone)[-1].conversation == 2)
    assert talk.of(FrameDone)[-1].index == 0 and talk.replies[-1][0] == -0.5
    kinds = [type(event).__name__ for event in talk.events]
    assert kinds.index("ConversationEnded") == kinds.index("FrameDone") + told


class VirtualTalk(FakeTalk):
    """The same on a virtual clock: what is decoded comes when its time has passed."""

    def __init__(self, engine, settings: Settings) -> None:
        super().__init__(engine, settings)
        self._free_s = 0.0

    def step(self, frame, hold=False, following=None) -> EngineReply:
        reply, port = super().step(frame, hold, following), self.engine.port
        self._free_s = max(port.now(), self._free_s) + self.engine.decode_s
        later: Future = Future()
        port.due.append((self._free_s, later, reply.pcm))
        return EngineReply(None, later=later)

    def close(self) -> None:
        while self.engine.port.due:
            self.engine.port.advance(0.01)


class DecodingPort(VirtualPort):
    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.due: deque = deque()

    def advance(self, seconds: float) -> None:
        until_s = self.now() + seconds
        while self.due and self.due[0][0] <= until_s:
            at_s, later, pcm = self.due.popleft()
            super().advance(at_s - self.now())
            later.set_result(pcm)
        super().advance(until_s - self.now())


def virtual_talk(step_s: float, decode_s: float, beside: bool) -> list:
    events, engine = [], FakeEngine(lambda: step_s if beside else step_s + decode_s)
    engine.port = DecodingPort(Numbers(60), lambda block: None)
    engine.sleep, engine.decode_s = engine.port.advance, decode_s
    if beside:
        engine.begin = lambda settings: VirtualTalk(engine, settings)
    session = TalkSession(lambda: engine)
    session.subscribe(events.append)
    session.subscribe(lambda e: session.finish() if isinstance(e, ConversationEnded) else None)
    session.begin(engine.port, Settings(seed=1))
    session.run()
    assert session.failure is None
    return events


def frames_of(events: list) -> list[FrameDone]:
    return [event for event in events if isinstance(event, FrameDone)]


def test_half_a_frame_each_for_model_and_decoder_is_kept_up_only_beside() -> None:
    beside = virtual_talk(0.05, 0.05, beside=True)
    frames = frames_of(beside)
    assert len(frames) == 60 / 0.08 and frames[-1].dropped_frames == 0
    assert max(one.lag_ms for one in frames) < 160
    assert [one.step_ms for one in frames] == pytest.approx([50.0] * len(frames))
    assert not [event for event in beside if isinstance(event, Notice)]
    in_turn = virtual_talk(0.05, 0.05, beside=False)
    assert frames_of(in_turn)[-1].dropped_frames > 100
    assert [event.kind for event in in_turn if isinstance(event, Notice)] == ["too-slow"]


def test_without_load_sound_that_is_decoded_beside_comes_no_later() -> None:
    one, other = (frames_of(virtual_talk(0.03, 0.02, beside)) for beside in (True, False))
    assert [a.lag_ms for a in one] == pytest.approx([b.lag_ms for b in other])


def test_a_decoder_that_is_too_slow_shows_in_the_frame_time() -> None:
    frames = frames_of(virtual_talk(0.03, 0.09, beside=True))
    assert [one.step_ms for one in frames] == pytest.approx([90.0] * len(frames)), "no queueing"
