"""moshi quantize on what people have: the embedded model, a repository, Kyutai's first Helium."""

import json
import shutil

import mlx.core as mx
import pytest
import soundfile

from app.cli import main
from moshi_mlx.helium.model import load_helium
from moshi_mlx.weights.loading import load_lm
from quantize.checkpoint import checkpoint as checkpoint_module
from tests.support.fakes.fake_hub import COMMIT, serving
from tests.support.models.helium_goldens import KYUTAI_CONFIG
from tests.support.models.lm_goldens import GOLDEN
from tests.support.models.quantize_models import write_model
from tests.support.talks.nano_answers import QUESTION, expected_answer, text_of, transcript

GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]


def test_a_quantized_nano_still_answers_aloud(tmp_path):
    """In 8 bit: the words of the answer, and a voice."""
    target, out = tmp_path / "nano-q8", tmp_path / "answer.wav"
    assert main(["quantize", "nano", str(target), "--recipe", "q8"]) == 0
    assert mx.load(str(target / "model.q8.safetensors"))["text_emb.weight"].dtype == mx.uint32
    assert main(["file", str(QUESTION), str(out), "--model", str(target), *GREEDY]) == 0
    assert text_of(transcript(tmp_path / "answer.jsonl")) == expected_answer()
    sound, _ = soundfile.read(out)
    assert abs(sound).max() > 0.05


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """owner/tiny on the hub, in Kyutai's PyTorch layout."""
    write_model(tmp_path / "origin")
    files = {path.name: path.read_bytes() for path in (tmp_path / "origin").iterdir()}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(monkeypatch) as server:
        server.repositories["owner/tiny"] = files
        yield server


def test_a_repository_is_fetched_and_named_with_its_commit(repository, tmp_path, monkeypatch):
    target = tmp_path / "out"
    monkeypatch.setattr(
        "tests.support.fakes.fake_hub.MODEL", {}
    )  # sums of these files, not of the hub test's
    assert main(["quantize", "owner/tiny", str(target), "--revision", "v1"]) == 0
    made = json.loads((target / "config.json").read_text())["quantization"]
    assert made["source"] == "owner/tiny" and made["revision"] == COMMIT
    assert main(["quantize", str(tmp_path / "origin"), str(tmp_path / "truth")]) == 0
    ours, truth = (mx.load(str(f / "model.q4.safetensors")) for f in (target, tmp_path / "truth"))
    assert set(ours) == set(truth)
    assert all(mx.array_equal(ours[name], truth[name]) for name in truth)
    load_lm(target)
    repository.repositories.clear()  # the second time nothing is asked for
    again = ["quantize", "owner/tiny", str(tmp_path / "again"), "--revision", "v1", "--offline"]
    assert main(again) == 0


def test_a_repository_that_is_not_there(repository, tmp_path, capsys):
    assert main(["quantize", "owner/none", str(tmp_path / "out")]) == 1
    assert "there is no repository owner/none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_helium_without_a_config_as_kyutai_first_published_it(tmp_path, monkeypatch):
    """The weights lie beside `helium*` names alone; the preset stands for config.json."""
    source, target = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    shutil.copy(GOLDEN / "helium" / "kyutai.safetensors", source / "helium-1-tiny.safetensors")
    monkeypatch.setattr(checkpoint_module, "raw_preset", {"helium-2b": KYUTAI_CONFIG}.__getitem__)
    recipe = tmp_path / "eight.json"
    recipe.write_text('{"*": {"bits": 8, "group_size": 32}}')
    assert main(["quantize", str(source), str(target), "--recipe", str(recipe)]) == 0
    assert json.loads((target / "config.json").read_text())["dim"] == KYUTAI_CONFIG["dim"]
    ids = mx.array([[1, 7, 30, 5]])
    logits = load_helium(target, dtype="float32")(ids)
    (source / "config.json").write_text(json.dumps(KYUTAI_CONFIG))
    truth = load_helium(source, dtype="float32")(ids)
    error = mx.sqrt(mx.mean((logits - truth) ** 2) / mx.mean(truth**2))
    assert 0 < float(error) < 0.03


def test_a_pattern_that_decides_about_nothing_is_told(tmp_path, capsys):
    write_model(tmp_path / "source")
    recipe = tmp_path / "mine.json"
    recipe.write_text('{"depfromer": "keep", "*": {"bits": 4, "group_size": 32}}')
    source, target = str(tmp_path / "source"), str(tmp_path / "out")
    assert main(["quantize", source, target, "--recipe", str(recipe)]) == 0
    assert "note: the recipe's 'depfromer' decides about no layer" in capsys.readouterr().out
