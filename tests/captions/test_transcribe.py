"""`moshi transcribe`: files, formats, lists that are gone on with, and bad input in one line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from app.cli import main
from moshi_mlx.audio.file import bounded
from moshi_mlx.errors import AudioError

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_stt"
RUN = json.loads((GOLDEN / "golden.json").read_text())["aligned"]
SOUND = np.array(mx.load(str(GOLDEN / "golden.safetensors"))["pcm_int16"])
MODEL = ["--model", str(GOLDEN)]


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, SOUND, 24_000)
    return path


def words_of(text):
    found = json.loads(text)
    return [w for segment in found["segments"] for w in segment["words"]]


def test_a_recording_is_printed(recording, capsys):
    most = ["--batch", "1000000000"]  # there is one
    assert main(["transcribe", str(recording), "--format", "json", *MODEL, *most]) == 0
    said = capsys.readouterr()
    words = words_of(said.out)
    assert [w["word"] for w in words] == [word for word, _, _ in RUN["words"]]
    assert [w["start"] for w in words] == [round(start, 3) for _, start, _ in RUN["words"]]
    assert "x real time" in said.err


def test_a_list_goes_on_where_it_was_left(recording, tmp_path, capsys):
    other, out = tmp_path / "other.flac", tmp_path / "out"
    soundfile.write(other, SOUND[:30_000], 24_000)
    command = ["transcribe", str(recording), str(other), "--output-dir", str(out), *MODEL]
    assert main([*command, "--format", "all"]) == 0
    names = sorted(path.name for path in out.iterdir())
    kinds = ("json", "srt", "tsv", "txt", "vtt")
    assert names == sorted(f"{stem}.{kind}" for stem in ("talk", "other") for kind in kinds)
    (out / "other.srt").unlink()
    for name in ("talk.txt", "other.txt"):
        (out / name).write_text("mine")
    capsys.readouterr()
    assert main([*command, "--format", "all"]) == 0
    said = capsys.readouterr().err
    assert f"{recording}: done before" in said and f"{other}: done before" not in said
    assert (out / "other.srt").exists() and (out / "other.txt").read_text() == "mine"
    assert (out / "talk.txt").read_text() == "mine"
    assert main([*command, "--format", "txt", "--force"]) == 0
    assert (out / "talk.txt").read_text() != "mine"


def test_no_transcript_takes_a_recordings_place(recording, tmp_path, capsys):
    odd = tmp_path / "talk.txt"
    recording.rename(odd)
    before = odd.read_bytes()
    command = ["transcribe", str(odd), "--output-dir", str(tmp_path), "--force", *MODEL]
    assert main(command) == 1
    assert "talk.txt is the input" in capsys.readouterr().err
    assert odd.read_bytes() == before and os.listdir(tmp_path) == ["talk.txt"]


def test_a_folder_that_cannot_be_made_is_one_line(recording, capsys):
    command = ["transcribe", str(recording), "--output-dir", "/dev/null/x", *MODEL]
    assert main(command) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error")]
    assert "/dev/null/x can't be made" in line


def test_names_are_printed_as_text(recording, capsys):
    red = recording.with_name("\x1b[31mred.wav")
    recording.rename(red)
    assert main(["transcribe", str(red), *MODEL]) == 0
    assert main(["trace", str(red)]) == 3
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\\x1b[31mred.wav" in said.err


def test_stdin_is_heard(monkeypatch, recording, capsys):
    class Given:
        buffer = io.BytesIO(recording.read_bytes())

    monkeypatch.setattr(sys, "stdin", Given())
    assert main(["transcribe", "-", "--format", "json", *MODEL]) == 0
    assert len(words_of(capsys.readouterr().out)) == len(RUN["words"])


def test_what_came_from_stdin_before_is_not_replaced(tmp_path, capsys):
    (tmp_path / "stdin.txt").write_text("mine")
    assert main(["transcribe", "-", "--output-dir", str(tmp_path), *MODEL]) == 1
    assert "stdin.txt exists: choose another name" in capsys.readouterr().err
    assert (tmp_path / "stdin.txt").read_text() == "mine"


def test_one_bad_recording_of_a_list_spoils_no_other(recording, tmp_path, capsys):
    bad, out = tmp_path / "bad.wav", tmp_path / "out"
    bad.write_bytes(b"no sound at all")
    command = ["transcribe", str(bad), str(recording), "--output-dir", str(out), *MODEL]
    assert main(command) == 1
    assert sorted(path.name for path in out.iterdir()) == ["talk.txt"]
    said = capsys.readouterr().err
    assert "error: " in said and "1 of 2 recordings failed" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no.wav"], "no sound file at no.wav"),
        (["{wav}", "--format", "doc"], "no format 'doc'"),
        (["{wav}", "--format", "all"], "say where with --output-dir"),
        (["{wav}", "sub/talk.mp3", "--output-dir", "{out}"], "rename one, or run them apart"),
        (["{wav}", "sub/TALK.mp3", "--output-dir", "{out}"], "rename one, or run them apart"),
        (["{wav}", "--output-dir", "{wav}"], "is no folder"),
    ],
)
def test_bad_arguments_are_one_line_before_a_model_is_loaded(
    arguments, line, recording, tmp_path, capsys
):
    filled = [a.format(wav=recording, out=tmp_path / "out") for a in arguments]
    usage = line.startswith(("no format", "say where", "is no folder"))
    status = main(["transcribe", *filled, "--model", "no/such-model", "--offline"])
    assert status == (2 if usage else 1)
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.wav"]


def test_a_stdin_that_is_no_sound_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no sound at all")))
    assert main(["transcribe", "-", *MODEL]) == 1
    said = capsys.readouterr().err
    assert "what came from stdin can't be read as sound" in said and said.count("\n") == 1


def test_a_pipe_without_an_end_is_given_up():
    with pytest.raises(AudioError, match=r"more than 0.0 GB came from x"):
        bounded(io.BytesIO(bytes(11)), "x", 10)
    assert bounded(io.BytesIO(bytes(10)), "x", 10) == bytes(10)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has /dev/full")
def test_a_disk_that_is_full_behind_stdout_is_one_line(recording, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "transcribe", str(recording), *MODEL],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (
        done.returncode == 1
        and done.stderr == "error: the disk is full; make room, and start again\n"
    )


def test_an_empty_stdin_is_one_line(monkeypatch, capsys):
    class Given:
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdin", Given())
    assert main(["transcribe", "-", *MODEL]) == 1
    assert "nothing came from stdin" in capsys.readouterr().err
