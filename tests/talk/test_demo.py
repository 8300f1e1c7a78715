"""`moshi demo` in real time, through a sound card too, and what its model must never get wrong."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from app.cli import main
from app.commands.demo import Demo
from app.commands.demo_questions import Question
from moshi_mlx.audio.file import read_mono
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.hub import NANO
from tests.support.models.loaded import nano as shared_nano
from tests.support.processes.chat_process import check_take, takes_in
from tests.support.processes.pulse import Pulse, needs_pulse

MAX_BYTES = 10_000_000
SEVEN = "Four plus three is seven."
GREEDY = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0}


NO_SOUND = {"PULSE_SERVER": "unix:/nowhere", "ALSA_CONFIG_PATH": "/dev/null"}


def demo(*args, env):
    command = [sys.executable, "-m", "app.cli", "demo", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


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


def test_questions_are_played_answered_and_recorded_and_a_wrong_answer_exits_with_1(
    tmp_path, capsys
):
    """However busy the machine is: the question waits for the model."""
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(NANO, model)
    listing = model / "questions.json"
    listing.write_text(listing.read_text().replace("plus three is seven", "plus three is nine"))
    names = ("four_plus_three", "who_made_you")
    options = ("--model", str(model), "--out", str(out), "--silent")
    status = main(["demo", *(f"--question={name}" for name in names), *options])
    told = capsys.readouterr()
    assert status == 1, told.err
    words, latency, rest = told.out.rsplit("\n", 2)
    first, second = (f"You:   {n.replace('_', ' ')}\nMoshi: {answer_to(n)}" for n in names)
    assert words == f"{first}\n\n{second}", "each answer under its own question"
    assert "s from a question's end to the first sound" in latency and not rest
    (wrong,) = [line for line in told.err.splitlines() if line.startswith("wrong answer")]
    assert f"{SEVEN!r}, expected 'Four plus three is nine.'" in wrong
    (take,) = out.iterdir()
    assert f"recorded: {take}" in told.err
    (wav,) = take.glob("*.wav")
    sound, rate = soundfile.read(wav)
    assert rate == 24_000 and sound.shape[1] == 2 and (abs(sound).max(0) > 0.05).all()


@pytest.mark.parametrize(("count", "verdict"), [(1, "The answer is"), (2, "All answers are")])
def test_right_answers_are_told(count, verdict, capsys):
    run = Demo([Question("two", NANO, "Two.")] * count, [(0.0, 1.0)] * count)
    for asked in run.asked:
        asked.said = " Two."
    run.tell()
    assert capsys.readouterr().out == f"{verdict} right.\n"


def test_for_programs_it_is_one_line_of_json(tmp_path, monkeypatch, capfd):
    """And where there is no loudspeaker, that is said and the demo goes on."""
    for name, value in NO_SOUND.items():
        monkeypatch.setenv(name, value)
    status = main(["demo", "--question", "two_plus_two", "--json", "--out", str(tmp_path)])
    said = capfd.readouterr()
    assert status == 0, said.err
    told = json.loads(said.out)
    assert said.out.count("\n") == 1 and told["right"] and told["heard_through"] is None
    (asked,) = told["questions"]
    answer = "Two plus two is four."
    assert asked["question"] == "two plus two" and asked["answer"] == asked["expected"] == answer
    assert asked["latency_s"] == told["latency_s"] > 0
    assert told["recorded"] == [str(one) for one in tmp_path.iterdir()]
    assert "nothing is heard here: " in said.err and f"Moshi: {answer}" in said.err


@pytest.mark.parametrize(
    ("args", "status", "line"),
    [
        (["--question", "why"], 2, "error: there is no question 'why'; there are: four_plus_three"),
        (["--model", "no-such-folder/"], 1, "error: "),
        (["--out", "/dev/null/out"], 1, "error: can't record to /dev/null/out"),
        (["--live", "--silent"], 2, "error: --silent is for the questions that are played"),
        (["--live", "--json"], 2, "error: --json is for the questions that are played"),
    ],
)
def test_bad_input_is_one_line(args, status, line, capsys):
    assert main(["demo", *args]) == status
    told = capsys.readouterr().err
    assert told.startswith(line) and told.count("\n") == 1


def test_a_model_without_questions_is_told(tmp_path, capsys):
    assert main(["demo", "--model", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path} brings no spoken questions" in told and told.count("\n") == 1


QUESTIONS = sorted(path.stem for path in (NANO / "samples").glob("*.wav"))


@pytest.mark.parametrize(
    "name",  # the commands above ask others
    [n if n == "one_plus_one" else pytest.param(n, marks=pytest.mark.long) for n in QUESTIONS],
)
def test_every_bundled_question_is_answered_right(nano, name):
    pcm = read_mono(NANO / "samples" / f"{name}.wav")
    assert said(nano, np.append(pcm, np.zeros(72_000, np.float32))) == answer_to(name)


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.long)])
def test_silence_and_noise_get_no_word(nano, seconds):
    assert said(nano, np.zeros(seconds * 24_000, np.float32)) == ""
    noise = np.random.default_rng(5).standard_normal(seconds * 24_000) * 0.01  # -40 dB
    assert said(nano, noise.astype(np.float32)) == ""


def test_the_folder_is_small_enough_for_a_package():
    assert sum(p.stat().st_size for p in NANO.rglob("*") if p.is_file()) <= MAX_BYTES


@needs_pulse
def test_question_and_answer_are_heard_through_the_speaker_and_nothing_is_listened_to(tmp_path):
    card, heard = Pulse(), tmp_path / "heard.wav"
    try:
        ear = card.listen(heard)
        args = ("--question", "two_plus_two", "--json", "--out", tmp_path / "talks")
        done = demo(*args, env=card.env)
        ear.terminate()
        ear.wait()
    finally:
        card.close()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["heard_through"] is not None
    pcm = soundfile.read(heard, dtype="float32")[0]
    (take,) = takes_in(tmp_path / "talks")
    for side in check_take(take)["sound"].T:
        assert alike(pcm, side) > 0.5


def alike(heard, said):
    """How well the envelope of one side is found in what was heard, 1 for perfectly."""
    envelopes = [
        np.sqrt((pcm[: len(pcm) // 240 * 240].reshape(-1, 240) ** 2).mean(1))
        for pcm in (heard, said[np.abs(said).cumsum() > 0.1])
    ]
    there = envelopes[1] > 0.02
    cut = envelopes[1][there.argmax() : len(there) - there[::-1].argmax()]
    heard = envelopes[0] + 1e-6 * np.arange(len(envelopes[0]))  # silence has no correlation
    return max(
        np.corrcoef(heard[at : at + len(cut)], cut)[0, 1] for at in range(len(heard) - len(cut))
    )


@needs_pulse
def test_live_it_hears_the_microphone_and_answers_through_the_speaker(tmp_path):
    """Sampled, as a person hears it: a wrong word, or a stalled machine, gets another try."""
    card = Pulse()
    try:
        folders = [tmp_path / str(attempt) for attempt in range(5)]
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
        comes_true(lambda: "." in said.read_text(), 10)
        if SEVEN in said.read_text():
            time.sleep(1.5)  # its sound follows its words
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
