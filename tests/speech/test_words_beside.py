"""The user's words beside a talk: what a process is given and says, and whatever befalls it."""

import io
import sys
import threading

import numpy as np
import pytest

from app.events import (
    ConversationEnded,
    ConversationStarted,
    FrameDone,
    Notice,
    Settings,
    Stopped,
    UserWord,
    UserWordsOver,
)
from app.machine.readers import child_command
from app.speech import words_beside
from app.speech.words_beside import TOO_SLOW, WordsBeside
from app.speech.words_child import BEGIN, END, FRAME, HEADER, Follower
from tests.support.fakes.heard_words import GOLDEN, WORD, heard_words
from tests.support.talks.talking import wait_for

SAMPLES = 1920


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return heard_words(tmp_path_factory.mktemp("heard") / "model")


def record(kind, data=b""):
    return HEADER.pack(kind, len(data)) + data


def frames(pcm):
    return [pcm[i : i + SAMPLES] for i in range(0, len(pcm) // SAMPLES * SAMPLES, SAMPLES)]


def followed(heard, *records):
    """The words; each conversation's are followed by one line that says that they are over."""
    told, words = [], []
    Follower(heard.stt.stream, told.append).follow(io.BytesIO(b"".join(records)).read)
    for line in told:
        if "over" in line:
            assert all(word["conversation"] <= line["over"] for word in words)
        else:
            words.append(line)
    over = [line["over"] for line in told if "over" in line]
    assert over == list(range(1, over[-1] + 1)) and "over" in told[-1]
    return words


def test_words_are_told_once_with_their_times(heard):
    pcm = np.concatenate([heard.sound(4), np.zeros(40 * SAMPLES, np.float32), heard.sound(2)])
    sound = [record(FRAME, frame.tobytes()) for frame in frames(pcm)]
    told = followed(heard, record(BEGIN, b"1"), *sound, record(END))
    words = heard.stt.transcribe(pcm).words
    assert [(one["word"], one["at"]) for one in told] == [(w.text, w.start_s) for w in words]
    assert len(words) == 3 and {one["conversation"] for one in told} == {1}


def test_conversations_have_their_own_words_and_times(heard):
    sound = [record(FRAME, frame.tobytes()) for frame in frames(heard.sound(3))]
    told = followed(
        heard, *sound, record(BEGIN, b"1"), *sound, record(BEGIN, b"2"), *sound, b"f\x00"
    )
    ones, twos = ([t["at"] for t in told if t["conversation"] == n] for n in (1, 2))
    assert ones == twos == [w.start_s for w in heard.stt.transcribe(heard.sound(3)).words]


class Told:
    """What a talk hears of it, and when."""

    def __init__(self):
        self.events, self.some = [], threading.Event()

    def __call__(self, event):
        self.events.append(event)
        self.some.set()

    def notices(self):
        return [event.message for event in self.events if isinstance(event, Notice)]


def talk(words, pcm, number=1):
    words(ConversationStarted(number, 0, Settings()))
    for i, frame in enumerate(frames(pcm)):
        words(FrameDone(number, i, frame, None, "", 3, 50.0, 1.0, 60.0, 0.0, 0))
    words(ConversationEnded(number, "hung up", len(pcm) // SAMPLES))


def test_a_process_of_its_own_says_them(heard):
    told = Told()
    command, environment = child_command("speech.words_child", str(heard.folder))
    words = WordsBeside(command, environment, told)
    talk(words, heard.sound(4))
    words(Stopped())
    over = lambda: told.events.count(UserWordsOver(1)) == 2  # noqa: E731
    wait_for(over)  # the process has ended before it is closed
    words.close(60)
    expected = heard.stt.transcribe(heard.sound(4)).words
    assert told.events[:-2] == [UserWord(1, w.text, w.start_s) for w in expected] != []
    assert told.events[-2:] == [UserWordsOver(1)] * 2  # of the talk, and of the process
    assert expected[0].text == WORD


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "the process that does so has ended"),
        ("import json; print(json.dumps({'failed': 'no memory'}))", "no memory"),
    ],
)
def test_a_process_that_dies_is_one_notice_and_the_talk_goes_on(heard, code, why):
    told = Told()
    words = WordsBeside([sys.executable, "-c", code], None, told)
    assert told.some.wait(60)
    talk(words, heard.sound(2))
    words.close(10)
    assert told.notices() == [f"what you say isn't written down: {why}"]
    assert told.events[-1] == UserWordsOver(1)


def test_a_process_that_never_reads_holds_nothing_up(heard):
    told = Told()
    words = WordsBeside([sys.executable, "-c", "import time; time.sleep(600)"], None, told)
    talk(words, np.zeros((words_beside.QUEUE_RECORDS + 100) * SAMPLES, np.float32))
    assert told.notices() == [f"what you say isn't written down: {TOO_SLOW}"]
    assert told.events[-1] == UserWordsOver(1)
    words.close(0.1)


def test_a_model_that_cannot_be_loaded_is_a_notice():
    told = Told()
    command, environment = child_command("speech.words_child", str(GOLDEN.parent / "dsm_tts"))
    words = WordsBeside(command, environment, told)
    assert told.some.wait(60)
    words.close(10)
    assert len(told.notices()) == 1 and "is no speech to text model" in told.notices()[0]
