"""A talk saved while it goes on: who makes the file, who writes it, and what a disk can't do."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from app.events import ConversationStarted, FrameDone, Notice, Settings
from app.talk.chat import Chat, ChatOptions
from app.talk.keeping import TalkKeeper
from app.talk.kept_talk import AskedModel
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.errors import MoshiError
from tests.support.fakes.fake_engine import FakeEngine, FakeFile
from tests.support.fakes.queue_sound import QueueSound

PATIENCE_S = 60.0


class Kept:
    """A chat with a fake model; `say` waits until so many frames of it are done."""

    def __init__(self, folder: Path, engine: FakeEngine) -> None:
        self.engine, self.sound, self.notices = engine, QueueSound(), []
        self._frames, self._started, self._changed = 0, False, threading.Condition()
        options = ChatOptions(
            Settings(seed=7, persona="a pirate"), "off", folder=folder, source=AskedModel("nano")
        )
        self.chat = Chat(lambda: engine, self.sound, options)  # type: ignore
        self.chat.subscribe(self._listen)
        self.chat.start()
        self.wait(lambda: self._started)  # what is said before isn't heard

    def _listen(self, event) -> None:
        with self._changed:
            if isinstance(event, FrameDone):
                self._frames += 1
            elif isinstance(event, ConversationStarted):
                self._started = True
            elif isinstance(event, Notice) and event.kind in ("saved", "save-failed"):
                self.notices.append(event)
            self._changed.notify_all()

    def wait(self, condition) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S)

    def say(self, frames: int) -> None:
        for _ in range(frames):
            before = self._frames
            self.sound.push_input(np.ones(FRAME_SAMPLES, np.float32))
            self.wait(lambda before=before: self._frames > before)


@pytest.fixture
def talk(tmp_path):
    made = []

    def make(engine=None):
        made.append(Kept(tmp_path / "talks", engine or FakeEngine()))
        return made[-1]

    yield make
    for one in made:
        for file in one.engine.kept:
            file.released.set()
        one.chat.close()


def test_frames_go_on_while_a_slow_disk_writes(talk, tmp_path) -> None:
    one = talk()
    one.say(2)
    one.chat.keep()
    one.say(1)
    (file,) = one.engine.kept
    assert file.begun.wait(PATIENCE_S)
    one.say(30)  # none of them waits for the file
    one.chat.keep()
    assert [n.message for n in one.notices] == ["the talk is being saved already"]
    file.released.set()
    one.wait(lambda: len(one.notices) == 2)
    assert (file.made_by, file.written_by) == ("moshi-model", "moshi-keeper")
    (path,) = (tmp_path / "talks").iterdir()
    assert one.chat.kept == [path]
    assert one.notices[1].message == f"saved: moshi chat --resume {path}"
    told = json.loads(file.note)
    assert (told["model"], told["persona"], told["voice"]) == ("nano", "a pirate", None)
    one.chat.keep()  # and the place is free again
    one.say(1)
    assert len(one.engine.kept) == 2


def test_a_frame_that_was_announced_is_stepped_before_the_talk_is_saved(talk) -> None:
    class Eager(FakeEngine):
        encodes_ahead = True
        begun, go = threading.Event(), threading.Event()

        def step(self, frame):
            self.begun.set()
            self.go.wait(PATIENCE_S)
            return super().step(frame)

    one = talk(Eager())
    one.sound.push_input(np.ones(2 * FRAME_SAMPLES, np.float32))
    assert one.engine.begun.wait(PATIENCE_S)
    one.chat.keep()  # while the first frame is stepped; the second is announced with it
    one.engine.go.set()
    one.wait(lambda: one.engine.kept)
    assert one.engine.followings[0] is not None and one.engine.followings[1] is None
    assert len(one.engine.kept) == 1


def test_without_a_talk_and_with_a_model_that_refuses_it_is_one_line(talk, tmp_path) -> None:
    class Refusing(FakeEngine):
        def step(self, frame):
            self.talks[-1].keep = refuse
            return super().step(frame)

    def refuse(note):
        raise MoshiError("this session is closed")

    one = talk(Refusing())
    one.say(1)
    one.chat.keep()
    one.say(1)
    one.chat.session.hang_up()
    one.chat.keep()
    one.wait(lambda: len(one.notices) == 2)
    assert [n.message for n in one.notices] == [
        "the talk can't be saved: this session is closed",
        "there is no talk to save",
    ]
    assert {n.kind for n in one.notices} == {"save-failed"}


def test_a_disk_that_can_not_is_told_and_a_writing_that_must_end_leaves_nothing(tmp_path) -> None:
    told: list[Notice] = []
    (tmp_path / "file").write_text("no folder")
    blocked = TalkKeeper(tmp_path / "file", told.append)
    assert blocked.reserve()
    blocked.take(FakeFile("", ""), 1)
    blocked.close(PATIENCE_S)
    assert told[0].message.startswith("the talk wasn't saved: ") and "\n" not in told[0].message
    ending = TalkKeeper(tmp_path / "talks", told.append)
    assert ending.reserve() and not ending.reserve()
    ending.take(FakeFile("", ""), 1)
    ending.close(0.0)
    assert "there was no time for it" in told[1].message
    assert list((tmp_path / "talks").iterdir()) == [] and ending.kept == []
