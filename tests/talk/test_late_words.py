"""Words of the user's that come when what they belong to is over: the talk, its recording."""

import io
import json
import sys
from pathlib import Path

import numpy as np

from app.events import ConversationStarted, FrameDone, UserWord, UserWordsOver
from app.screen.plain_text import run_plain
from app.talk.chat import Chat, ChatOptions
from moshi_mlx.clock import FRAME_SAMPLES
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.fakes.queue_sound import QueueSound
from tests.support.talks.talking import wait_for


class LateWords:
    """Writes down what the test says, and one word when the talk is over."""

    def __init__(self, tell):
        self.tell = tell

    def __call__(self, event): ...

    def close(self, timeout_s):
        self.tell(UserWord(1, "goodbye", 0.08))


class Talk:
    def __init__(self, folder: Path) -> None:
        self.sound, self.frames, self.started = QueueSound(), 0, False
        options = ChatOptions(echo="off", folder=folder, words=self.words)
        self.chat = Chat(FakeEngine, self.sound, options)  # type: ignore
        self.chat.subscribe(self.listen)

    def words(self, tell) -> LateWords:
        self.beside = LateWords(tell)
        return self.beside

    def listen(self, event) -> None:
        self.started |= isinstance(event, ConversationStarted)
        self.frames += isinstance(event, FrameDone)

    def say(self, frames: int) -> None:
        wait_for(lambda: self.started)
        for _ in range(frames):
            before = self.frames
            self.sound.push_input(np.ones(FRAME_SAMPLES, np.float32))
            wait_for(lambda before=before: self.frames > before)


def words_of(take: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (take / "you.jsonl").read_text().splitlines()]


def test_a_recording_that_is_switched_off_has_the_words_that_were_on_their_way(tmp_path):
    talk = Talk(tmp_path)
    talk.chat.start()
    talk.chat.record(True)
    talk.say(3)
    assert talk.chat.record(False) is False
    wait_for(lambda: list(tmp_path.glob("*/manifest.json")))
    talk.say(3)
    tell = talk.beside.tell
    tell(UserWord(1, "late", 0.08))
    tell(UserWord(1, "not recorded", 0.24))
    talk.chat.record(True)
    talk.say(2)
    tell(UserWord(1, "there", 0.1))
    tell(UserWord(1, "again", 0.5))
    tell(UserWordsOver(1))
    talk.chat.close()
    first, second = talk.chat.takes
    assert words_of(first) == ["late", "there"] and words_of(second) == ["again"]
    manifest = json.loads((first / "manifest.json").read_text())
    assert (manifest["ended"], manifest["frames"]) == ("switched off", 3)


def test_plain_text_ends_with_the_last_words(tmp_path, capsys, monkeypatch):
    talk = Talk(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)  # no keys
    talk.chat.subscribe(
        lambda event: talk.chat.quit() if isinstance(event, ConversationStarted) else None
    )
    run_plain(talk.chat)
    assert capsys.readouterr().out == "you: goodbye\n"


class Full(io.StringIO):
    """A standard output on a disk without room."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def fileno(self):
        return self.number

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_full_disk_behind_plain_text_is_told(tmp_path, capsys, monkeypatch):
    talk = Talk(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    talk.chat.subscribe(
        lambda event: talk.chat.quit() if isinstance(event, ConversationStarted) else None
    )
    with open(tmp_path / "words", "w") as file:
        monkeypatch.setattr(sys, "stdout", Full(file.fileno()))
        run_plain(talk.chat)
    assert "the disk is full where Moshi's words go" in capsys.readouterr().err
