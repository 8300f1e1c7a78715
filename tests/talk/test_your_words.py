"""`moshi chat --your-words`: what the user says in plain text and recording, by a small model."""

import json

import soundfile

from app import cli
from tests.support.fakes.heard_words import GOLDEN, WORD, heard_words

SILENT = ["--echo", "off", "--no-greeting", "--seed", "0", "--tail", "1"]


def test_what_the_user_says_is_written_and_recorded(tmp_path, capsys):
    heard, wav = heard_words(tmp_path / "model"), tmp_path / "talk.wav"
    soundfile.write(wav, heard.sound(5), 24_000, subtype="FLOAT")
    command = ["chat", "--model", "nano", "--plain", *SILENT]
    command += ["--virtual-input", str(wav), "--your-words", str(heard.folder)]
    command += ["--record", str(tmp_path / "talks")]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    said = " ".join(line[5:] for line in told.splitlines() if line.startswith("you: "))
    assert said.split() == [WORD] * 2, told
    (take,) = (tmp_path / "talks").iterdir()
    words = [json.loads(line) for line in (take / "you.jsonl").read_text().splitlines()]
    starts = [round(word.start_s, 2) for word in heard.stt.transcribe(heard.sound(5)).words]
    assert words == [{"time_s": start, "text": WORD} for start in starts[:2]]


def test_a_model_of_another_kind_is_one_line(tmp_path, capsys):
    wav = tmp_path / "talk.wav"
    wav.touch()
    command = ["chat", "--model", "nano", "--plain", "--virtual-input", str(wav)]
    assert cli.main([*command, "--your-words", str(GOLDEN.parent / "dsm_tts")]) == 1
    said = capsys.readouterr().err
    assert "is no speech to text model" in said and said.count("\n") == 1
