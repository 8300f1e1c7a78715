"""`moshi translate`: sound and transcript of a small Hibiki, and bad input in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.cli import main
from tests.support.models.small_speaker import with_codec

GOLDEN = Path(__file__).parents[1] / "golden"
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """hibiki-zero's small model beside a small Mimi of the same codes."""
    folder = with_codec(tmp_path_factory.mktemp("hibiki") / "model", "dsm_hibiki_zero")
    return str(folder)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "source.wav"
    pcm = np.random.default_rng(0).standard_normal(120000) * 0.1
    soundfile.write(path, pcm, 24_000)
    return path


def test_a_recording_is_translated_with_its_transcript(model, recording, tmp_path, capsys):
    out = tmp_path / "out.flac"
    command = ["translate", str(recording), str(out), "--model", model, *GREEDY]
    assert main([*command, "--format", "txt,json", "--stereo"]) == 0
    both, rate = soundfile.read(out)
    assert rate == 24_000 and both.shape[1] == 2
    heard, _ = soundfile.read(recording)
    assert np.allclose(both[: len(heard), 0], heard, atol=1e-4) and np.any(both[:, 1])
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["text"] and (tmp_path / "out.txt").exists()
    ends = [word["end"] for segment in found["segments"] for word in segment["words"]]
    assert ends == sorted(ends) and ends[-1] <= len(both) / rate + 0.1
    assert capsys.readouterr().out.strip() == found["text"].strip()
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{in}", "{in}"], "is the input"),
        (["{in}", "{out}.mp3"], "choose one of these"),
        (["{in}", "{out}.wav", "--format", "doc"], "no format 'doc'"),
        (["{out}.wav", "{out}2.wav"], "no sound file at"),
    ],
)
def test_bad_arguments_are_one_line_before_a_model_is_loaded(
    arguments, line, recording, tmp_path, capsys
):
    names = {"in": recording, "out": tmp_path / "out"}
    filled = [argument.format(**names) for argument in arguments]
    usage = line.startswith("no format")
    status = main(["translate", *filled, "--model", "no/such-model", "--offline"])
    assert status == (2 if usage else 1)
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.wav"]
