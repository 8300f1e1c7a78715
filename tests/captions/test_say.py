"""`moshi say`: a text to a file, stdin line by line, and bad input in one line."""

import io
import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.cli import main
from tests.support.models.small_speaker import with_codec
from tests.support.processes.endings import Command, until

GOLDEN = Path(__file__).parents[1] / "golden"
VOICE = str(GOLDEN / "dsm_tts" / "ada.wav.1e68beda@240.safetensors")
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]
TEXT = "Do you hear me? Yes, I do!"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The small model beside a small Mimi of the same codes."""
    folder = with_codec(tmp_path_factory.mktemp("tts") / "model")
    return str(folder)


def sound(path):
    return soundfile.read(path)[0]


def piped(data):
    """What a shell's pipe brings."""
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)), encoding="utf-8")


def test_a_text_becomes_sound_with_the_times_of_its_words(model, tmp_path, capsys):
    out = tmp_path / "out.wav"
    command = ["say", TEXT, "-o", str(out), "--voice", VOICE, "--model", model, *GREEDY]
    assert main([*command, "--json"]) == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [w["word"] for w in words] == TEXT.split()
    starts = [w["start"] for w in words]
    pcm, rate = soundfile.read(out)
    assert rate == 24_000 and np.any(pcm) and starts == sorted(starts)
    assert starts[-1] < len(pcm) / rate
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err


def test_stdin_is_said_line_by_line_as_the_whole_is(model, tmp_path, monkeypatch):
    whole, lines = tmp_path / "whole.wav", tmp_path / "lines.wav"
    command = ["--voice", VOICE, "--model", model, *GREEDY]
    assert main(["say", TEXT, "-o", str(whole), *command]) == 0
    monkeypatch.setattr(sys, "stdin", piped(TEXT.replace(" ", "\n").encode()))
    assert main(["say", "-", "-o", str(lines), *command]) == 0
    assert np.array_equal(soundfile.read(whole)[0], soundfile.read(lines)[0])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["", "-o", "{out}.wav"], "nothing to say"),
        (["a", "-o", "{out}.mp3"], "choose one of these"),
        (["a", "-o", "{out}.wav", "--voice", "none.safetensors"], "no voice file at"),
        (["a", "-o", "{out}.wav", "--voices", f"{VOICE},./none"], "no voice file at ./none"),
        (["none.jsonl", "--output-dir", "{out}"], "none.jsonl can't be read"),
    ],
)
def test_bad_arguments_are_one_line_before_a_model_is_loaded(arguments, line, tmp_path, capsys):
    filled = [argument.format(out=tmp_path / "out") for argument in arguments]
    assert main(["say", *filled, "--model", "no/such-model", "--offline"]) == 1
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_text_in_another_encoding_is_one_line(model, tmp_path, capsys):
    command = ["say", "caf\udce9", "-o", str(tmp_path / "out.wav"), "--model", model]
    assert main([*command, "--voice", VOICE]) == 1
    assert "the text holds bytes that are no UTF-8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["", "   \n\n", '<break time="1s"/>'])
def test_a_stdin_without_words_is_one_line(model, given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", piped(given.encode()))
    assert main(["say", "-", "-o", str(tmp_path / "out.wav"), "--model", model]) == 1
    assert "the text has no words" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_codec_says_so(tmp_path, capsys):
    model = str(GOLDEN / "dsm_tts")
    assert main(["say", "Hello.", "-o", str(tmp_path / "out.wav"), "--model", model]) == 1
    assert "has no Mimi beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--voice", VOICE, "--voices", f"{VOICE},{VOICE}"], "leave --voice out"),
        (["-o", "{out}.wav", "--speaker", "x"], "--speaker is for what is played"),
        (["-o", "{out}.wav", *["--voice", VOICE] * 3], "2 speakers at most"),
        (["--output-dir", "{out}"], "--output-dir is for a list"),
    ],
)
def test_options_that_contradict_each_other_are_told(arguments, line, tmp_path, capsys):
    filled = [argument.format(out=tmp_path / "out") for argument in arguments]
    assert main(["say", "a", *filled, "--model", "no/such-model", "--offline"]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "say where its files go with --output-dir"),
        (["--output-dir", "{out}", "-o", "{out}.wav"], "leave --output"),
        (["--output-dir", "{out}", "--play"], "leave --output"),
    ],
)
def test_a_list_goes_into_a_folder(arguments, line, tmp_path, capsys):
    filled = [argument.format(out=tmp_path / "out") for argument in arguments]
    assert main(["say", "a.jsonl", *filled, "--model", "no/such-model", "--offline"]) == 2
    assert line in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_voice_is_given_by_its_name(model, tmp_path, capsys):
    shutil.copy(VOICE, model)
    try:
        for voice, out in ((VOICE, "file"), ("ada", "name")):
            command = ["say", TEXT, "-o", str(tmp_path / f"{out}.wav"), "--voice", voice]
            assert main([*command, "--model", model, *GREEDY]) == 0
        assert np.array_equal(*(sound(tmp_path / f"{name}.wav") for name in ("file", "name")))
        capsys.readouterr()
        command = ["say", TEXT, "-o", str(tmp_path / "no.wav"), "--voice", "adda"]
        assert main([*command, "--model", model, "--offline"]) == 1
        said = capsys.readouterr().err
        assert "has no voice adda (did you mean ada?); there are ada" in said
        assert said.count("\n") == 1 and not (tmp_path / "no.wav").exists()
    finally:
        (Path(model) / Path(VOICE).name).unlink()


def test_a_voice_of_another_model_is_one_line(model, tmp_path, capsys):
    folder = tmp_path / "other"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_id"]["sig"] = "00000000"
    (folder / "config.json").write_text(json.dumps(config))
    command = ["say", TEXT, "-o", str(tmp_path / "out.wav"), "--voice", VOICE]
    assert main([*command, "--model", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "is a voice of another model: sig" in said and said.count("\n") == 1


def test_two_voices_say_a_line_each(model, tmp_path):
    """As two turns of the library; one voice says both lines."""
    voices = [VOICE, str(GOLDEN / "dsm_tts" / "ben.wav.1e68beda@240.safetensors")]
    text, out = "Hello there!\n\nYes, I do!\n", tmp_path / "out.wav"
    command = ["say", text, "-o", str(out), "--model", model, *GREEDY, "--force"]
    assert main([*command, "--voices", ",".join(voices)]) == 0
    speaker = moshi_mlx.load_tts(model)
    options = {"text_temperature": 0.0, "audio_temperature": 0.0, "seed": 0, "voices": voices}
    two = speaker.speak(["Hello there!", "Yes, I do!"], **options)
    assert np.allclose(soundfile.read(out)[0], np.clip(two.pcm, -1, 1), atol=1e-4)
    one = speaker.speak(["Hello there! Yes, I do!"], **options)
    assert not np.array_equal(one.fed[: len(two.fed)], two.fed[: len(one.fed)])


def test_a_list_becomes_files_and_is_gone_on_with(model, tmp_path, capsys):
    scripts, out = tmp_path / "list.jsonl", tmp_path / "out"
    lines = [{"text": TEXT, "id": "one"}, {"text": ["Hello.", "Hi."], "output": "two.flac"}]
    lines += [{"text": "a", "voice": "nobody"}, {"text": '<break time="1s"/>'}, {"txt": "a"}]
    scripts.write_text("\n".join(map(json.dumps, lines)))
    command = ["say", str(scripts), "--output-dir", str(out), "--voice", VOICE]
    command += ["--model", model, *GREEDY, "--json", "--offline"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["one.wav", "two.flac"]
    told = [json.loads(line) for line in said.out.splitlines()]
    assert [(t["line"], t["output"]) for t in told] == [
        (1, str(out / "one.wav")), (2, str(out / "two.flac"))
    ]  # fmt: skip
    assert [word["word"] for word in told[0]["words"]] == TEXT.split()
    assert "3 of 5 scripts failed: lines 3, 4, 5" in said.err and "Traceback" not in said.err
    for error in ("line 3: model has no voice nobody", "line 4: there is nothing", "unknown key"):
        assert error in said.err
    alone = tmp_path / "alone.wav"
    single = ["say", TEXT, "-o", str(alone), "--voice", VOICE, "--model", model, *GREEDY]
    assert main(single) == 0 and np.array_equal(sound(alone), sound(out / "one.wav"))
    (out / "one.wav").unlink()
    before = (out / "two.flac").read_bytes()
    scripts.write_text("\n".join(map(json.dumps, lines[:2])))
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr()
    assert "two.flac: done before" in said.err and len(said.out.splitlines()) == 1
    assert (out / "one.wav").exists() and (out / "two.flac").read_bytes() == before


def test_a_list_that_is_interrupted_holds_whole_files(model, tmp_path):
    scripts, out = tmp_path / "list.jsonl", tmp_path / "out"
    scripts.write_text("\n".join(json.dumps({"text": f"{TEXT} " * 2}) for _ in range(200)))
    options = ["--output-dir", out, "--model", model, "--voice", VOICE, *GREEDY]
    command = Command(tmp_path, "say", scripts, *options)
    until(lambda: (out / "0002.wav").exists())
    assert command.end(signal.SIGINT, 20) == 130
    made = sorted(path.name for path in out.iterdir())
    assert made == [f"{n:04d}.wav" for n in range(1, len(made) + 1)] and len(made) < 200
    assert all(len(sound(out / name)) > 24_000 for name in made)


def test_a_stdin_closed_within_a_word_or_a_character_is_a_clean_end(model, tmp_path, monkeypatch):
    out = tmp_path / "out.wav"
    command = ["-o", str(out), "--voice", VOICE, "--model", model, "--json", *GREEDY, "--force"]
    for data in (b"Do you he", "Do you hé".encode()[:-1]):
        monkeypatch.setattr(sys, "stdin", piped(data))
        assert main(["say", "-", *command]) == 0
        assert len(soundfile.read(out)[0]) > 24_000


def test_a_stdin_that_is_no_text_leaves_no_file(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", piped(b"Do you \xff\xfe hear"))
    assert main(["say", "-", "-o", str(tmp_path / "out.wav"), "--model", model]) == 1
    assert "no UTF-8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
