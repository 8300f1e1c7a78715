"""`moshi trace`: the sentence, JSON, page and exit status; odd and hostile files in one line."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.cli import main
from app.commands.trace import through
from app.provenance.examine import find_marks
from app.provenance.index import default_path
from app.provenance.index_writer import add_sound
from app.provenance.verdict import one_in
from moshi_mlx import load_mimi
from moshi_mlx.errors import AudioError
from moshi_mlx.provenance import make_key, mark, read_key
from tests.support.rooms import voice

RATE = 24_000


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def said() -> np.ndarray:
    return mark(voice("questions"), payload=2026)


@pytest.fixture(scope="module")
def talk(said, tmp_path_factory) -> Path:
    """Left somebody, right marked: 27 s."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    heard = np.resize(voice("voice_awb"), len(said))
    soundfile.write(path, np.stack([heard, said], axis=1), RATE)
    return path


@pytest.fixture(scope="module")
def short(said, tmp_path_factory) -> Path:
    """Left somebody, right marked: 4 s."""
    path = tmp_path_factory.mktemp("short") / "short.wav"
    said = said[: 4 * RATE]
    soundfile.write(path, np.stack([voice("voice_awb")[: len(said)], said], axis=1), RATE)
    return path


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("person") / "person.flac"
    soundfile.write(path, voice("voice_rms"), RATE)
    return path


def test_marked_sound_is_found_and_a_sentence_comes_first(talk, capsys):
    assert main(["trace", str(talk)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{talk}: Made by moshi-local: its mark is in 27 of 27 s (right)")
    assert sum("payload 2026" in line for line in rest) == 3


def test_a_person_is_not_found_and_no_more_is_claimed(person, capsys):
    assert main(["trace", str(person)]) == 3
    said = capsys.readouterr().out
    assert "No sign of moshi-local was found. That doesn't show that a person speaks" in said


def test_json_holds_every_window(talk, person, capsys):
    assert main(["trace", str(talk), str(person), "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert [row["found"] for row in both] == [True, False]
    windows = both[0]["windows"]
    assert [(w["channel"], w["found"]) for w in windows] == [(0, False), (1, True)] * 3
    assert all(w["payload"] == 2026 and w["false_alarm"] < 1e-50 for w in windows[1::2])
    assert both[0]["rate_hz"] == RATE and both[0]["credentials"]["state"] in ("none", "unknown")


def test_the_page_stands_alone(short, person, tmp_path, capsys):
    page = tmp_path / "page.html"
    talk = shutil.copy(short, tmp_path / "<b>talk.wav")
    assert main(["trace", str(talk), str(person), "--html", str(page)]) == 0
    html = page.read_text()
    assert "<b>talk" not in html and "&lt;b&gt;talk.wav" in html and "http" not in html
    assert html.count("<rect") == 2 + 1
    assert main(["trace", str(person), "--html", str(tmp_path / "no" / "page.html")]) == 1
    assert "can't be written" in capsys.readouterr().err


def test_private_keys(tmp_path, capsys):
    key = tmp_path / "mine.key"
    assert main(["trace", "--make-key", str(key)]) == 0
    soundfile.write(tmp_path / "a.wav", mark(voice("voice_awb"), read_key(key)), RATE)
    assert main(["trace", str(tmp_path / "a.wav")]) == 3
    assert main(["trace", str(tmp_path / "a.wav"), "--key", str(key)]) == 0
    assert f"key {key}" in capsys.readouterr().out
    key.chmod(0o644)
    assert main(["trace", str(tmp_path / "a.wav"), "--key", str(key)]) == 1
    assert capsys.readouterr().err.startswith("error: the key at")
    assert main(["trace", "--make-key", str(key)]) == 1


def test_a_weak_mark_is_found_over_thirty_seconds(tmp_path):
    voices = [voice(name) for name in ("voice_awb", "voice_librivox", "voice_rms")]
    pcm = mark(np.concatenate(voices))
    noise = np.random.default_rng(1).standard_normal(len(pcm))
    path = tmp_path / "noisy.wav"
    soundfile.write(path, 0.3 * (pcm + noise * np.std(pcm) * 10 ** (-2 / 20)), RATE)
    marks = find_marks(path)
    assert len(marks.together) == 1 and marks.together[0].found
    assert not all(window.found for window in marks.windows)


def test_every_look_counts_in_the_bound(short):
    """Twice as many searches with two keys."""
    one = find_marks(short).windows[1]
    two = find_marks(short, {"public key": b"moshi-local, the public key of the mark, version 1",
                            "another": b"another"}).windows[1]  # fmt: skip
    assert two.z == one.z and two.false_alarm / one.false_alarm == pytest.approx(2)


def test_the_talk_is_named_from_the_index(person, capsys):
    number = add_sound(default_path(), voice("voice_rms"))
    assert main(["trace", str(person)]) == 0
    assert f"this machine said it in talk {number}, from 0 s on" in capsys.readouterr().out
    assert main(["trace", "--talks"]) == 0
    assert "1 talks" in capsys.readouterr().out
    for wrong in ("x", "-1", "99", "1.5"):
        assert main(["trace", f"--forget={wrong}"]) == (1 if wrong == "99" else 2)
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["trace", "--forget", str(number)]) == 0
    assert main(["trace", str(person)]) == 3
    assert main(["trace", "--forget", "ALL"]) == 0


def test_a_damaged_index_is_told_and_the_rest_goes_on(short, capsys):
    default_path().parent.mkdir(parents=True)
    default_path().write_bytes(b"no database" * 1000)
    assert main(["trace", str(short)]) == 0
    said = capsys.readouterr()
    assert "its mark is in" in said.out and "move it away" in said.err
    assert main(["trace", "--talks"]) == 1


def test_without_an_index_nothing_is_made(person, tmp_path):
    assert main(["trace", str(person)]) == 3
    assert main(["trace", "--talks"]) == 0
    assert not (tmp_path / "config").exists()


ODD_FILES = {
    "gone.wav": None,
    "empty.wav": b"",
    "text.wav": b"hello",
    "header.wav": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0",
    "rate.wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0"
    + struct.pack("<HHIIHH", 1, 1, 1, 2, 2, 16)
    + b"data\0\0\0\0",
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_are_one_line(name, tmp_path, capsys):
    if ODD_FILES[name] is not None:
        (tmp_path / name).write_bytes(ODD_FILES[name])
    assert main(["trace", str(tmp_path / name)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out


def test_a_folder_and_no_file_at_all(tmp_path, capsys):
    assert main(["trace", str(tmp_path)]) == 1
    assert main(["trace"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_header_that_lies_about_its_length(tmp_path):
    """4 GB by the header, one second there: what is there is looked at."""
    soundfile.write(tmp_path / "a.wav", voice("voice_awb")[:RATE], RATE)
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    at = raw.find(b"data")
    raw[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(raw)
    assert find_marks(tmp_path / "a.wav").seconds == pytest.approx(1.0, abs=0.01)


def test_no_samples_short_ones_and_many_channels(tmp_path):
    for samples, channels in ((0, 1), (1, 2), (100, 3), (RATE, 12)):
        path = tmp_path / "a.wav"
        soundfile.write(path, np.zeros((samples, channels)), RATE)
        marks = find_marks(path)
        assert not marks.found and marks.channels == channels
        assert len(marks.windows) == (0 if not samples else min(channels, 8))


def test_what_cannot_be_read_twice_is_one_line_at_once(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.wav")
    assert main(["trace", str(tmp_path / "pipe.wav"), str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("save the sound as one" in line for line in lines)


def test_an_error_in_one_file_keeps_the_others(short, tmp_path, capsys):
    assert main(["trace", str(tmp_path / "gone.wav"), str(short)]) == 1
    said = capsys.readouterr()
    assert "Made by moshi-local" in said.out and "no sound file" in said.err


def test_what_a_file_says_of_itself_is_printable(tmp_path, capsys):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", RATE, 1) as file:
        file.comment = "AI-generated \x1b[2J by somebody"
        file.write(voice("voice_awb"))
    assert main(["trace", str(tmp_path / "a.wav")]) == 3
    said = capsys.readouterr().out
    assert "the file says: AI-generated ?[2J by somebody" in said and "\x1b" not in said


def test_six_hours_need_the_memory_of_some_windows(tmp_path):
    """Peak memory is measured in a process of its own, on an hour and on six minutes of telephone
    sound; time is of no interest here."""
    code = (
        "import resource, sys; from pathlib import Path; from app.provenance.examine import "
        "find_marks; find_marks(Path(sys.argv[1])); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peak = []
    for minutes in (1, 12):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8000, 1) as file:
            for _ in range(minutes):
                file.write(np.zeros(8000 * 60))
        said = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True
        )
        peak.append(int(said.stdout))
    assert peak[1] < 1.1 * peak[0]


def test_what_a_codec_leaves_of_the_mark_is_told(tmp_path, capsys):
    """nano's Mimi leaves nothing, and says so: its codes alone come back, frame by frame."""
    talk = tmp_path / "talk.wav"
    soundfile.write(talk, voice("questions")[: 13 * RATE], RATE)
    assert main(["trace", "--try-codec", "nano", str(talk)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{talk}: the mark is found in 0 of 2 windows of 10 s behind the codec")
    assert float(re.findall(r"before it (\S+), in 2\)", line)[0]) > 12
    pcm = voice("questions")[: 21 * 1920 + 100]
    mimi = load_mimi("nano")
    heard = mimi.decode(mimi.encode(pcm[: 21 * 1920]))  # in one go
    np.testing.assert_allclose(through(mimi, pcm), heard, atol=1e-4)


def test_a_codec_of_no_use_is_one_line(person, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for model in ("nanoo", str(tmp_path / "empty"), str(person)):
        assert main(["trace", "--try-codec", model, str(person)]) == 1
        said = capsys.readouterr()
        assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert main(["trace", "--try-codec", "nano", str(tmp_path / "gone.wav")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    soundfile.write(tmp_path / "short.wav", np.zeros(10), RATE)
    assert main(["trace", "--try-codec", "nano", str(tmp_path / "short.wav")]) == 0
    assert "0 of 0 windows" in capsys.readouterr().out


def test_chances_are_told_in_round_numbers():
    assert (one_in(1e-6), one_in(3e-9), one_in(1e-120), one_in(1)) == (
        "1,000,000",
        "100,000,000",
        "10^120",
        "1",
    )


def test_unreadable_rates_raise(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 100)
    with pytest.raises(AudioError, match="are not sound"):
        find_marks(tmp_path / "a.wav")
    make_key(tmp_path / "k")
