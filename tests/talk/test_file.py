"""`moshi file`: any sound file in, both sides out in step, and every bad input in one line."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

import moshi_mlx
from app.cli import main
from app.commands.file import write_answer
from moshi_mlx.audio.file import read_mono
from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.lm.model import Lm
from moshi_mlx.moshi import Moshi, Session
from moshi_mlx.output.whole_file import OutputError
from moshi_mlx.session.answering import Answer
from moshi_mlx.text.word import Word
from tests.support.fakes.cpu_codec import SLOW_S, CpuCodec, moshi_with
from tests.support.talks.nano_answers import QUESTION, expected_answer, text_of, transcript

NANO = Path(moshi_mlx.__file__).parent / "nano"
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]
RATE = 24_000


def moshi_file(*arguments: object) -> int:
    return main(["file", *map(str, arguments), "--model", "nano"])


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        ("q.wav", 48_000, 2),
        ("q.mp3", 44_100, 2),
        pytest.param("q.wav", 24_000, 1, marks=pytest.mark.long),
        pytest.param("q.flac", 44_100, 1, marks=pytest.mark.long),
    ],
)
def test_a_question_in_any_format_is_answered(
    name: str, rate: int, channels: int, tmp_path: Path, capsys
) -> None:
    pcm, _ = soundfile.read(QUESTION, dtype="float32")
    pcm = soxr.resample(pcm, RATE, rate)
    soundfile.write(tmp_path / name, np.stack([pcm] * channels, axis=1), rate)
    out = tmp_path / "answer.wav"
    assert moshi_file(tmp_path / name, out, "--tail", "2.4", *GREEDY) == 0
    said = capsys.readouterr()
    rows = transcript(tmp_path / "answer.jsonl")
    assert text_of(rows) == expected_answer() == said.out.strip()
    assert all(row["speaker"] == "moshi" for row in rows)
    times = [row["time_s"] for row in rows]
    seconds = len(pcm) / rate + 2.4  # the tail
    assert times == sorted(times) and times[0] >= 0 and times[-1] < seconds
    assert all(row["time_s"] < row["end_s"] for row in rows)
    subtitles = (tmp_path / "answer.vtt").read_text()
    assert subtitles.startswith("WEBVTT\n\n00:00:0") and f"<v Moshi>{said.out}" in subtitles
    sound, rate_out = soundfile.read(out)
    assert rate_out == RATE and sound.ndim == 1
    assert abs(len(sound) / RATE - seconds) < 0.1  # mp3 pads
    assert re.search(r"seed 0, real-time factor \d+\.\d\d", said.err)


def test_stereo_is_user_left_and_moshi_right_in_step(tmp_path: Path) -> None:
    out, alone = tmp_path / "both.flac", tmp_path / "alone.flac"
    assert moshi_file(QUESTION, out, "--stereo", "--tail", "0.4", *GREEDY) == 0
    assert moshi_file(QUESTION, alone, "--tail", "0.4", *GREEDY) == 0
    both, _ = soundfile.read(out, dtype="float32")
    heard = read_mono(QUESTION)
    assert both.shape == (len(heard) + int(0.4 * RATE), 2)
    np.testing.assert_allclose(both[: len(heard), 0], heard.clip(-1, 1), atol=1e-4)
    assert not both[len(heard) :, 0].any()
    assert both[:, 1].any()
    np.testing.assert_array_equal(both[:, 1], soundfile.read(alone, dtype="float32")[0])


@pytest.mark.parametrize(
    "load",
    [lambda: moshi_mlx.load("nano", codec="mlx"), lambda: moshi_with(CpuCodec(SLOW_S))],
    ids=["codec in MLX", "codec on the CPU, beside"],
)
def test_nothing_of_the_recording_is_lost_and_times_are_those_of_the_session(
    load: Callable[[], Moshi],
) -> None:
    """By hand: one silent frame, then the recording; what is said while frame i is heard."""
    moshi = load()
    heard, told = read_mono(QUESTION)[: 14 * 1920 - 700], []
    answer = moshi.answer(heard, 0.0, seed=4, on_frame=lambda *one: told.append(one))
    assert told == [(i, 15) for i in range(1, 16)] and answer.seed == 4
    frames = np.pad(heard, (1920, 700)).reshape(-1, 1920)
    with moshi.session(seed=4) as session:
        replies = [session.step(frame) for frame in frames]
    silence = np.zeros(1920, np.float32)
    said = np.concatenate([silence if r.pcm is None else r.pcm for r in replies[1:]])
    np.testing.assert_array_equal(answer.pcm, said[: len(heard)])
    np.testing.assert_array_equal(answer.aligned, np.stack([heard, answer.pcm], axis=1))
    starts = [max(i - 1, 0) * 0.08 for i, r in enumerate(replies) if r.text.startswith(" ")]
    assert [word.start_s for word in answer.words] == starts
    assert answer.text == "".join(r.text for r in replies).strip()


@pytest.mark.skipif(not can_compile(), reason="nothing is traced where nothing can be compiled")
def test_a_top_k_of_its_own_is_traced_before_the_first_frame(monkeypatch) -> None:
    traces: list[int] = []
    at_steps: list[int] = []
    trace, step = Lm.step, Session.step_early

    def traced(*args: Any, **kwargs: Any) -> Any:
        traces.append(1)
        return trace(*args, **kwargs)

    def counted(*args: Any, **kwargs: Any) -> Any:
        at_steps.append(len(traces))
        return step(*args, **kwargs)

    monkeypatch.setattr(Lm, "step", traced)
    monkeypatch.setattr(Session, "step_early", counted)
    moshi_with(CpuCodec()).answer(np.zeros(10 * 1920, np.float32), 0.0, text_top_k=7)
    assert at_steps and 0 < at_steps[0] == len(traces)


def empty_wav(folder: Path) -> Path:
    soundfile.write(folder / "in.wav", np.zeros(0), RATE)
    return folder / "in.wav"


def no_sound(folder: Path) -> Path:
    (folder / "in.wav").write_text("this is not sound")
    return folder / "in.wav"


def cut_wav(folder: Path) -> Path:
    (folder / "in.wav").write_bytes(QUESTION.read_bytes()[:20])
    return folder / "in.wav"


@pytest.mark.parametrize(
    ("source", "out", "options", "message"),
    [
        (lambda f: f / "none.wav", "o.wav", [], "no sound file at"),
        (lambda f: f, "o.wav", [], "no sound file at"),
        (empty_wav, "o.wav", [], "holds no sound; give a recording"),
        (no_sound, "o.wav", [], "can't be read as sound"),
        (cut_wav, "o.wav", [], "can't be read as sound"),
        (lambda f: QUESTION, "o.mp3", [], "sound is written as .wav or .flac"),
        (lambda f: QUESTION, "none/o.wav", [], "is no folder; make it first"),
        (lambda f: QUESTION, "folder.wav", [], "is a folder; give the name of a file in it"),
        (lambda f: QUESTION, "o.wav", ["--tail", "-1"], "--tail must lie between 0 and 3600"),
        (lambda f: QUESTION, "o.wav", ["--tail", "nan"], "--tail must lie between 0 and 3600"),
        (lambda f: QUESTION, "o.wav", ["--codec", "rust"], "rustymimi"),
        (lambda f: QUESTION, "o.wav", ["--revision", "v1"], "a revision can't be chosen"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    source, out: str, options: list[str], message: str, tmp_path: Path, capfd
) -> None:
    (tmp_path / "folder.wav").mkdir()
    recording = source(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    usage = message.startswith(("--", "the seed", "a revision"))
    assert moshi_file(recording, tmp_path / out, *options) == (2 if usage else 1)
    error = capfd.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("model", "message"),
    [("kyutai/none", "offline, but kyutai/none isn't on"), ("a/b/c", "neither a folder here nor")],
)
def test_a_model_that_is_not_there(model: str, message: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "o.wav"
    assert main(["file", str(QUESTION), str(out), "--model", model, "--offline"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_recording_itself_is_not_overwritten(tmp_path: Path, capsys) -> None:
    copy = tmp_path / "q.wav"
    copy.write_bytes(QUESTION.read_bytes())
    assert moshi_file(copy, copy) == 1
    assert f"is the input {copy} itself; choose another name" in capsys.readouterr().err
    assert copy.read_bytes() == QUESTION.read_bytes()


FORCED = ("--model", "nano", "--force")


@pytest.mark.parametrize(("name", "tail_s"), [("out.wav", "0"), ("out.flac", "1.5")])
def test_a_disk_that_fills_up_leaves_what_was_there(name: str, tail_s: str, tmp_path: Path) -> None:
    """The system refuses to let a file grow past 20 kB: a full disk, without being root."""
    out = tmp_path / name
    out.write_text("an earlier answer")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "app.cli",
            "file",
            str(QUESTION),
            str(out),
            *FORCED,
            "--tail",
            tail_s,
        ],
        **{"capture_output": True, "text": True, "cwd": Path(__file__).parents[2]},
        # No bytecode: that, too, would be refused.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    files = " and ".join(str(out.with_suffix(end)) for end in (out.suffix, ".jsonl", ".vtt"))
    assert line.startswith(f"error: {files} can't be written") and "is the disk full?" in line
    assert "Traceback" not in done.stderr
    assert [*tmp_path.iterdir()] == [out] and out.read_text() == "an earlier answer"


def test_sound_and_transcript_come_together_or_not_at_all(tmp_path: Path) -> None:
    silence = np.zeros((100, 2), np.float32)
    answer = Answer(silence[:, 0], (Word("hé", 0.08, 0.5),), silence, seed=0, took_s=1.0)
    (tmp_path / "a.jsonl").mkdir()  # the transcript can't take its name
    (tmp_path / "a.jsonl" / "x").touch()
    with pytest.raises(OutputError, match=r"a\.jsonl and \S+a\.vtt can't be written"):
        write_answer(tmp_path / "a.wav", answer)
    assert [*tmp_path.iterdir()] == [tmp_path / "a.jsonl"]
    path = write_answer(tmp_path / "b.wav", answer)
    assert path.read_text(encoding="utf-8") == (
        '{"time_s": 0.08, "end_s": 0.5, "speaker": "moshi", "text": "hé"}\n'
    )
    assert (tmp_path / "b.vtt").read_text(encoding="utf-8") == (
        "WEBVTT\n\n00:00:00.080 --> 00:00:00.500\n<v Moshi>hé\n\n"
    )


def test_nothing_that_is_there_is_replaced_without_force(tmp_path: Path, capsys) -> None:
    """Also a transcript, whose name nobody typed, and a recording called like one."""
    sound, words = tmp_path / "o.wav", tmp_path / "o.jsonl"
    for there in (sound, words, tmp_path / "o.vtt"):
        there.write_text("precious")
        assert moshi_file(QUESTION, sound) == 1
        said = capsys.readouterr().err
        assert said == f"error: {there} exists: choose another name, or replace it with --force\n"
        assert [*tmp_path.iterdir()] == [there] and there.read_text() == "precious"
        there.unlink()
    words.write_bytes(QUESTION.read_bytes())
    assert moshi_file(words, sound, "--force") == 1
    assert f"{words} is the input {words} itself" in capsys.readouterr().err
    assert words.read_bytes() == QUESTION.read_bytes() and [*tmp_path.iterdir()] == [words]


def test_no_file_that_an_option_names_becomes_an_output(tmp_path: Path, capsys) -> None:
    for end, option in ((".jsonl", "--tokenizer"), (".vtt", "--mimi"), (".wav", "--voice")):
        named = tmp_path / f"named{end}"
        named.write_text("precious")
        assert moshi_file(QUESTION, tmp_path / "named.wav", "--force", option, named) == 1
        assert f"{named} is the input {named} itself" in capsys.readouterr().err
        assert named.read_text() == "precious" and [*tmp_path.iterdir()] == [named]
        named.unlink()


def test_a_device_gets_the_sound_alone(capsys) -> None:
    assert moshi_file(QUESTION, "/dev/null", "--tail", "0") == 0
    assert capsys.readouterr().err.startswith("/dev/null: ")
    assert not list(Path("/dev").glob("null.*"))
    assert moshi_file(QUESTION, "") == 1
    assert "it is a folder; give the name of a file in it" in capsys.readouterr().err
