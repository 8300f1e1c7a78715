"""A plain talk whose words can't be written any more."""

import sys

import numpy as np

from app.events import ConversationStarted
from app.screen.plain_text import run_plain
from app.talk.chat import Chat, ChatOptions
from moshi_mlx.clock import FRAME_SAMPLES
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.fakes.queue_sound import QueueSound


class Full:
    """A standard output on a disk without room."""

    def __init__(self, file):
        self.fileno = file.fileno

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self): ...


def test_a_full_disk_behind_it_ends_it_with_a_line(tmp_path, capsys, monkeypatch):
    sound = QueueSound()
    chat = Chat(FakeEngine, sound, ChatOptions(echo="off"))  # type: ignore

    def speak(event):
        if isinstance(event, ConversationStarted):
            sound.push_input(np.ones(FRAME_SAMPLES, np.float32))

    chat.subscribe(speak)
    monkeypatch.setattr(sys, "stdin", None)
    with open(tmp_path / "words", "w") as file:
        monkeypatch.setattr(sys, "stdout", Full(file))
        run_plain(chat)
    chat.close()
    assert "the disk is full where Moshi's words go" in capsys.readouterr().err
