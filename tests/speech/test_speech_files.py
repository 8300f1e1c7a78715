"""Sound on its way to a file while it is made: none of it is held, whole or not at all."""

import contextlib
import gc
import os
import sqlite3
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.provenance.index_writer import SoundIndex, add_sound
from app.provenance.origin import Origin
from app.speech.saying import Saying
from app.speech.speech_files import kept, speech_file
from moshi_mlx.errors import MoshiError
from moshi_mlx.output.whole_file import OutputError
from tests.support.models.small_speaker import with_codec

GREEDY: Any = {"text_temperature": 0.0, "audio_temperature": 0.0}
ORIGIN = Origin("small")
PIECE = np.linspace(-0.5, 0.5, 1920, dtype=np.float32)


def spoken_into(path: Path, speaker, words: int) -> tuple[int, int]:
    """Bytes of Python's and numpy's that were held at once while so many words were said, and the
    sound's own."""
    gc.collect()
    tracemalloc.start()
    try:
        with kept(path, ORIGIN, None, print) as keep:
            saying = Saying(None, keep)
            saying.say(speaker.stream(keep=False, **GREEDY), (("hello ", 0) for _ in range(words)))
        return tracemalloc.get_traced_memory()[1], 4 * saying.samples
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(300)
def test_a_long_speech_takes_no_more_memory_than_a_short_one(tmp_path) -> None:
    speaker = moshi_mlx.load_tts(with_codec(tmp_path / "model"), "float32")
    spoken_into(tmp_path / "first.wav", speaker, 4)  # what is made once
    short, short_bytes = spoken_into(tmp_path / "short.wav", speaker, 6)
    long, long_bytes = spoken_into(tmp_path / "long.wav", speaker, 20)
    more = long_bytes - short_bytes
    assert more > 500_000 and long - short < more / 10
    whole, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    assert len(whole) == long_bytes // 4
    again = speaker.speak(["hello " * 20], **GREEDY)
    assert np.abs(np.clip(again.pcm, -1, 1) - whole).max() < 1e-4


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_it_is_on_disk_while_it_is_made_and_has_its_name_in_the_end(tmp_path, name) -> None:
    with speech_file(tmp_path / name, ORIGIN, print) as sound:
        for _ in range(300):
            sound.write(PIECE)
        (growing,) = tmp_path.iterdir()
        assert growing.name != name and growing.stat().st_size > 100_000
    assert [path.name for path in tmp_path.iterdir()] == [name]
    pcm, rate = soundfile.read(tmp_path / name, dtype="float32")
    assert (rate, len(pcm)) == (24_000, 300 * 1920)
    assert np.abs(pcm[:1920] - PIECE).max() < 1e-4


def test_what_fails_or_says_nothing_leaves_no_file_and_what_was_there(tmp_path) -> None:
    (tmp_path / "old.wav").write_bytes(b"old")
    with pytest.raises(MoshiError), speech_file(tmp_path / "old.wav", ORIGIN, print) as sound:
        sound.write(PIECE)
        raise MoshiError("the model failed")
    with speech_file(tmp_path / "new.wav", ORIGIN, print):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old.wav"]
    assert (tmp_path / "old.wav").read_bytes() == b"old"
    with pytest.raises(OutputError), speech_file(Path("/dev/full"), ORIGIN, print) as sound:
        sound.write(PIECE)


def test_a_pipe_gets_the_whole_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    came: list[bytes] = []
    reader = threading.Thread(target=lambda: came.append((tmp_path / "pipe.wav").read_bytes()))
    reader.start()
    with speech_file(tmp_path / "pipe.wav", ORIGIN, print) as sound:
        sound.write(PIECE)
    reader.join(60)
    (tmp_path / "came.wav").write_bytes(came[0])
    pcm, _ = soundfile.read(tmp_path / "came.wav", dtype="float32")
    assert np.abs(pcm - PIECE).max() < 1e-4


def test_the_index_is_that_of_the_whole_however_the_sound_is_cut(tmp_path) -> None:
    rng = np.random.default_rng(0)
    pcm = np.cumsum(rng.standard_normal(24_000 * 12)).astype(np.float32)
    pcm = 0.3 * pcm / np.abs(pcm).max()
    add_sound(tmp_path / "whole", pcm)
    with SoundIndex(tmp_path / "cut") as index:
        for start in range(0, len(pcm), 1000):
            index.add(pcm[start : start + 1000])
    with SoundIndex(tmp_path / "none"):
        pass
    marks = {}
    for name in ("whole", "cut", "none"):
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as db:
            marks[name] = db.execute("select hash, at from landmark order by hash, at").fetchall()
    assert marks["whole"] == marks["cut"] and len(marks["whole"]) > 10 and marks["none"] == []
