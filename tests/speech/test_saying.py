"""A text spoken while it is written: heard at once, in order, without gaps, and kept."""

import os
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from app.audio.devices.device import Device
from app.audio.loudspeaker import AHEAD_S, Loudspeaker
from app.speech.saying import READY_FRAMES, Saying, in_turns, written
from moshi_mlx.errors import AudioError, MoshiError
from moshi_mlx.provenance import Marker, mark
from tests.support.fakes.sound_fakes import Card
from tests.support.models.small_speaker import with_codec

GREEDY: Any = {"text_temperature": 0.0, "audio_temperature": 0.0}
TEXT = "Do you hear me? Yes, I do!"
SPEAKERS = Device("Speakers", 1, 0, 2, 48_000.0, default_output=True)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    return moshi_mlx.load_tts(with_codec(tmp_path_factory.mktemp("tts") / "model"), "float32")


class Ear:
    """A loudspeaker that remembers."""

    def __init__(self):
        self.heard = []

    def say(self, pcm):
        self.heard.append(pcm)


def test_it_is_heard_while_it_is_written_and_kept_as_the_whole(speaker):
    ear, early, text = Ear(), [], f"{TEXT} " * 2

    def pieces():
        for letter in text:
            early.append(len(ear.heard))
            yield letter

    kept: list[np.ndarray] = []
    saying = Saying(ear, kept.append)
    saying.say(speaker.stream(keep=False, **GREEDY), in_turns(pieces(), 1))
    whole = speaker.speak([text], **GREEDY)
    assert np.array_equal(np.concatenate(kept), whole.pcm)
    assert np.array_equal(np.concatenate(ear.heard), whole.pcm)
    assert saying.words == whole.word_times and saying.samples == len(whole.pcm)
    assert any(early) and READY_FRAMES <= max(early) < len(ear.heard)


def test_what_is_heard_is_marked_as_a_file_is(speaker):
    ear, text = Ear(), "Yes, I do!"
    Saying(ear).say(speaker.stream(keep=False, **GREEDY), [(text, 0)])
    plain = speaker.speak([text], mark=None, **GREEDY).pcm
    assert np.array_equal(np.concatenate(ear.heard), mark(plain))
    keyed = speaker.speak([text], mark=Marker(payload=9), **GREEDY).pcm
    assert np.array_equal(keyed, mark(plain, payload=9))
    assert np.array_equal(plain, speaker.speak([text], mark=False, **GREEDY).pcm)


@pytest.mark.parametrize("cuts", [[], range(1, 40)])
def test_of_two_speakers_each_says_a_line(cuts):
    text = "\n Hello.\r\n\n \nHi, you!\nBye.\n"
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    said = ["", ""]
    for piece, who in in_turns(pieces, 2):
        said[who] += piece
    assert [s.split() for s in said] == [["Hello.Bye."], ["Hi,", "you!"]]
    alone = list(in_turns(pieces, 1))
    assert "".join(piece for piece, _ in alone) == text and {who for _, who in alone} == {0}


def test_a_short_speech_is_heard_too(speaker):
    ear = Ear()
    saying = Saying(ear)
    saying.say(speaker.stream(keep=False, initial_padding=0, final_padding=0, **GREEDY), [("a", 0)])
    assert sum(map(len, ear.heard)) == saying.samples > 0


def test_a_pipe_is_read_as_soon_as_something_is_written():
    reading, writing = os.pipe()
    with os.fdopen(reading, "r") as file, os.fdopen(writing, "wb", buffering=0) as pipe:
        pieces = written(file)
        pipe.write(b"Hel")
        assert next(pieces) == "Hel"
        pipe.write("é".encode()[:1])
        assert next(pieces) == ""
        pipe.write("é".encode()[1:] + b"!")
        assert next(pieces) == "é!"
        pipe.close()
        assert list(pieces) == []
    with pytest.raises(MoshiError, match="no stdin"):
        next(written(None))


def test_a_loudspeaker_plays_all_of_what_is_ahead_of_time(tmp_path):
    """Three seconds handed over at once: waits for room, skips nothing."""
    card = Card(tmp_path, [SPEAKERS])
    loudspeaker = Loudspeaker(command=card.command)
    frames = np.linspace(0.1, 0.9, 36 * 1920, dtype=np.float32).reshape(-1, 1920)
    for frame in frames:
        loudspeaker.say(frame)
    loudspeaker.close()
    played = card.played.reshape(-1)
    sounding = played[played > 0.05]
    assert len(sounding) >= frames.size - 480 and AHEAD_S < 2.9
    middle = sounding[sounding > 0.15]
    assert np.all(np.diff(middle[: len(middle) - 960]) >= 0)


def test_a_loudspeaker_that_stops_is_one_line(tmp_path):
    card = Card(tmp_path, [SPEAKERS])
    card.whims(stops_after=20)
    loudspeaker = Loudspeaker(command=card.command)
    with pytest.raises(AudioError, match="has stopped playing"):
        for _ in range(100):
            loudspeaker.say(np.ones(1920, np.float32))
    loudspeaker.close()
