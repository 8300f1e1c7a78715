"""Subtitles: the rules of cues on made-up and random words, and each format as players read it."""

import json
import random

import numpy as np
import pytest

from app.captions.cues import LINE_CHARACTERS, LINES, LONGEST_S, cues_of
from app.captions.formats import FORMATS, clock
from moshi_mlx.stt import Transcript, Word


def said(*texts, each_s=0.3, gap_s=0.0):
    at, words = 0.0, []
    for text in texts:
        words.append(Word(text, at, at + each_s))
        at += each_s + gap_s
    return words


def transcript(words, leading=""):
    return Transcript(np.zeros(0, np.int32), tuple(words), leading, None)


def test_a_cue_ends_with_a_sentence_or_a_pause():
    cues = cues_of(said("So", "be", "it.", "Amen", "and", "then"))
    assert [cue.text for cue in cues] == ["So be it.", "Amen and then"]
    assert [cue.text for cue in cues_of(said("one", "two", gap_s=1.0))] == ["one", "two"]
    assert [cue.text for cue in cues_of(said('"Who?"', "me"))] == ['"Who?"', "me"]


def test_random_words_are_all_there_and_every_cue_keeps_the_rules():
    rng = random.Random(1)
    words, at = [], 0.0
    for _ in range(2000):
        text = "x" * rng.randint(1, 14) + rng.choice(["", "", "", ",", "."])
        length = rng.uniform(0.05, 0.8)
        words.append(Word(text, at, at + length))
        at += length + rng.choice([0, 0, 0.2, 1.5])
    cues = cues_of(words)
    assert [word for cue in cues for word in cue.words] == words
    for cue in cues:
        assert len(cue.lines) <= LINES and max(map(len, cue.lines)) <= LINE_CHARACTERS
        assert cue.end_s - cue.start_s <= LONGEST_S
        assert " ".join(cue.lines) == cue.text
    assert len(cues) < len(words) / 2


def test_a_word_longer_than_a_line_has_a_line_of_its_own():
    (cue,) = cues_of(said("a", "y" * 60))
    assert cue.lines == ("a", "y" * 60)


TALK = transcript([*said("Hello", "<there>", "&", "you."), Word("Bye.", 3723.4996, 3724.0)])
AFTER = {
    "txt": "Hello <there> & you.\nBye.\n",
    "srt": (
        "1\n00:00:00,000 --> 00:00:01,200\nHello <there> & you.\n\n"
        "2\n01:02:03,500 --> 01:02:04,000\nBye.\n\n"
    ),
    "vtt": (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.200\nHello &lt;there&gt; &amp; you.\n\n"
        "01:02:03.500 --> 01:02:04.000\nBye.\n\n"
    ),
    "tsv": "start\tend\ttext\n0\t1200\tHello <there> & you.\n3723500\t3724000\tBye.\n",
}


@pytest.mark.parametrize("name", AFTER)
def test_a_format_is_written_as_its_readers_want_it(name):
    assert FORMATS[name](TALK) == AFTER[name]


def test_json_holds_every_word():
    found = json.loads(FORMATS["json"](TALK))
    assert found["text"] == "Hello <there> & you. Bye."
    words = [word for segment in found["segments"] for word in segment["words"]]
    assert [w["word"] for w in words] == ["Hello", "<there>", "&", "you.", "Bye."]
    assert words[1] == {"word": "<there>", "start": 0.3, "end": 0.6}


def test_nothing_said_is_an_empty_file_that_players_open():
    empty = transcript([])
    assert FORMATS["srt"](empty) == FORMATS["txt"](empty) == ""
    assert FORMATS["vtt"](empty) == "WEBVTT\n\n"
    assert json.loads(FORMATS["json"](empty)) == {"text": "", "segments": []}
    assert FORMATS["txt"](transcript(said("b"), leading="a")) == "a\nb\n"


def test_hours_are_not_lost():
    assert clock(3600 * 100 + 59.9999, ",") == "100:01:00,000"
