"""`moshi demo` in a real process and in real time, and what its model must never get wrong."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.file import read_mono
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.hub import NANO
from tests.support.chat_process import check_take, dropped_frames, takes_in
from tests.support.loaded import nano as shared_nano
from tests.support.pulse import Pulse, needs_pulse

MAX_BYTES = 10_000_000
SEVEN = "Four plus three is seven."
GREEDY = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0}


def demo(*args):
    command = [sys.executable, "-m", "app.cli", "demo", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def nano():
    return shared_nano()


def said(moshi, pcm):
    """All that Moshi says while it hears float32 [samples]."""
    frames = pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    with moshi.session(**GREEDY) as session:
        return "".join(session.step(frame).text for frame in frames).strip()


def answer_to(name):
    answers = json.loads((NANO / "questions.json").read_text())["answers"]
    return next(a["answer"] for a in answers if name.replace("_", " ") in a["questions"])


def test_a_question_is_played_answered_and_recorded(tmp_path):
    done = demo("--question", "four_plus_three", "--out", tmp_path)
    if not dropped_frames(tmp_path):
        assert done.returncode == 0, done.stderr
        assert "You:   four plus three\nMoshi: Four plus three is seven." in done.stdout
        assert "All 1 answers are right." in done.stdout
        assert "s from a question's end to the first sound" in done.stdout
    (take,) = tmp_path.iterdir()
    (wav,) = take.glob("*.wav")
    sound, rate = soundfile.read(wav)
    assert rate == 24_000 and sound.shape[1] == 2 and (abs(sound).max(0) > 0.05).all()


def test_a_wrong_answer_is_told_and_exits_with_1(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(NANO, model)
    listing = model / "questions.json"
    listing.write_text(listing.read_text().replace("plus three is seven", "plus three is nine"))
    done = demo("--question", "four_plus_three", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "expected 'Four plus three is nine.'" in done.stderr
    assert "answers are right" not in done.stdout


@pytest.mark.parametrize(
    ("args", "status", "line"),
    [
        (["--question", "why"], 2, "error: there is no question 'why'; there are: four_plus_three"),
        (["--model", "no-such-folder/"], 1, "error: "),
        (["--out", "/dev/null/out"], 1, "error: can't record to /dev/null/out"),
    ],
)
def test_bad_input_is_one_line(args, status, line):
    done = demo(*args)
    assert done.returncode == status and done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_a_model_without_questions_is_told(tmp_path):
    done = demo("--model", tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{tmp_path} brings no spoken questions" in done.stderr


@pytest.mark.parametrize("name", sorted(p.stem for p in (NANO / "samples").glob("*.wav")))
def test_every_bundled_question_is_answered_right(nano, name):
    pcm = read_mono(NANO / "samples" / f"{name}.wav")
    assert said(nano, np.append(pcm, np.zeros(96_000, np.float32))) == answer_to(name)


@pytest.mark.parametrize("seconds", [6, pytest.param(20, marks=pytest.mark.long)])
def test_silence_and_noise_get_no_word(nano, seconds):
    assert said(nano, np.zeros(seconds * 24_000, np.float32)) == ""
    noise = np.random.default_rng(5).standard_normal(seconds * 24_000) * 0.01  # -40 dB
    assert said(nano, noise.astype(np.float32)) == ""


def test_the_folder_is_small_enough_for_a_package():
    assert sum(p.stat().st_size for p in NANO.rglob("*") if p.is_file()) <= MAX_BYTES


@needs_pulse
def test_live_it_hears_the_microphone_and_answers_through_the_speaker(tmp_path):
    """Sampled, as a person hears it: a wrong word, or a stalled machine, gets another try."""
    card = Pulse()
    try:
        folders = [tmp_path / str(attempt) for attempt in range(3)]
        folder = next((f for f in folders if SEVEN in ask_live(card, f)), None)
    finally:
        card.close()
    assert folder is not None
    heard, _ = soundfile.read(folder / "heard.wav", dtype="float32")
    assert np.abs(heard).max() > 0.05, "and the speaker spoke"
    (take,) = takes_in(folder / "talks")
    assert check_take(take)["sound"].any()


def ask_live(card, folder):
    """Asks `moshi demo --live` a question through the microphone; what it says."""
    folder.mkdir()
    said, notes = folder / "said", folder / "notes"
    command = [sys.executable, "-m", "app.cli", "demo", "--live", "--out", str(folder / "talks")]
    with said.open("wb") as out, notes.open("wb") as err:
        talk = subprocess.Popen(command, env=card.env, stdout=out, stderr=err)
    try:
        assert comes_true(lambda: "conversation 1" in notes.read_text(), 60), notes.read_text()
        assert "Ask, for example: " in notes.read_text()
        ear = card.listen(folder / "heard.wav")
        card.speak(NANO / "samples" / "four_plus_three.wav")
        comes_true(lambda: SEVEN in said.read_text(), 8)
        time.sleep(2)  # its sound follows its words
        ear.terminate()
        ear.wait()
        talk.send_signal(signal.SIGINT)
        assert talk.wait(60) == 130
    finally:
        talk.kill()
        talk.wait()
    return said.read_text()


def comes_true(condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
