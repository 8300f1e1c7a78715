"""`moshi chat` on virtual devices, in real time: real model."""

import json

import soundfile

from app.cli import main
from moshi_mlx.hub import NANO
from tests.support.processes.chat_process import check_answer

GREEDY = ["--seed", "0", "--text-temperature", "0", "--audio-temperature", "0"]


def chat(*args):
    return main(["chat", "--model", "nano", "--plain", *args])


def test_a_spoken_question_is_answered_recorded_and_transcribed(tmp_path, capfd):
    out, talks = tmp_path / "out.wav", tmp_path / "talks"
    question = NANO / "samples" / "four_plus_three.wav"
    status = chat(
        *("--virtual-input", str(question), "--virtual-output", str(out)),
        *("--record", str(talks), "--echo", "off", *GREEDY),
    )
    said = capfd.readouterr()
    assert status == 0, said.err
    check_answer(talks, said.out, "Four plus three is seven.")
    assert "seed 0" in said.err
    (take,) = talks.iterdir()
    manifest = json.loads((take / "manifest.json").read_text())
    assert manifest["finished"] and manifest["model"] == "nano" and manifest["seed"] == 0
    assert manifest["mark"] == "public key"
    before, _, after = said.err.partition("You are talking with a machine: Moshi is an AI.\n")
    assert after and "carries no mark" not in said.err and "of talk, seed" not in before
    assert "<v Moshi>Four" in (take / "transcript.vtt").read_text()
    assert " of talk, seed 0\n" in said.err, "as the screen tells at its end"
    sound, rate = soundfile.read(out)
    question_s = soundfile.info(question).duration
    assert rate == 24_000 and question_s + 3.5 < len(sound) / rate < question_s + 8
    assert abs(sound).max() > 0.05


def test_a_voice_without_a_mark_is_told_on_the_screen_and_in_the_manifest(tmp_path, capfd):
    question, talks = NANO / "samples" / "four_plus_three.wav", tmp_path / "talks"
    options = ("--virtual-input", str(question), "--record", str(talks), "--tail", "0", *GREEDY)
    status = chat("--no-mark", *options)
    said = capfd.readouterr()
    assert status == 0, said.err
    assert said.err.count("Moshi's voice carries no mark (--no-mark)\n") == 1
    (take,) = talks.iterdir()
    assert json.loads((take / "manifest.json").read_text())["mark"] == "none"
