"""`moshi doctor --model`: every value is looked at, what isn't finite is named, all of it."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest

from app import cli
from app.commands import doctor
from app.doctor.checks import OK, PROBLEM
from app.doctor.model_check import SHOWN, check_model
from moshi_mlx.errors import UsageError
from moshi_mlx.hub import NANO
from moshi_mlx.weights.finite import BLOCK_ITEMS, Damage, damaged
from tests.support.fakes.commands import parsed
from tests.support.fakes.doctor_machines import M4_MAX
from tests.support.fakes.fake_hub import serving


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded model."""
    folder = tmp_path / "model"
    shutil.copytree(NANO, folder, ignore=shutil.ignore_patterns("samples", "questions.json"))
    return folder


def stored(path) -> dict[str, mx.array]:
    tensors = mx.load(str(path))
    assert isinstance(tensors, dict)
    return tensors


def spoil(folder, *names: str, value: float = np.nan, at: int = -1, file="model.safetensors"):
    """One value of each of these tensors of a file."""
    tensors = stored(folder / file)
    for name in names:
        flat = np.array(tensors[name].astype(mx.float32)).reshape(-1)
        flat[at] = value
        changed = mx.array(flat).reshape(tensors[name].shape).astype(tensors[name].dtype)
        tensors[name] = changed
    mx.eval(tensors)
    (folder / file).unlink()
    mx.save_safetensors(str(folder / file), tensors)


def test_a_whole_model_is_one_line_and_all_of_it_is_read():
    seen = []
    (line,) = check_model("nano", progress=lambda done, total: seen.append((done, total)))
    assert line.level == OK and "every value finite" in line.text and "2 files" in line.text
    done, total = seen[-1]
    assert 0.9 * total < done < total  # but for the headers
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_anywhere_is_found_and_every_tensor_named(model, value):
    spoil(model, "text_linear.weight", "emb.3.weight", value=value, at=12345)
    spoil(model, "encoder.model.0.conv.conv.weight", value=value, file="mimi.safetensors")
    lines = check_model(str(model))
    assert {line.level for line in lines} == {PROBLEM}
    assert {line.text for line in lines} == {
        "model.safetensors: text_linear.weight has 1 value that is not finite",
        "model.safetensors: emb.3.weight has 1 value that is not finite",
        "mimi.safetensors: encoder.model.0.conv.conv.weight has 1 value that is not finite",
    }
    assert all("fetch it again" in line.advice for line in lines)


def test_many_are_counted(model):
    names = list(stored(model / "model.safetensors"))
    spoil(model, *names)
    lines = check_model(str(model))
    assert len(lines) == SHOWN + 1 and lines[-1].text == f"and {len(names) - SHOWN} more"


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
def test_every_place_is_looked_at(tmp_path, dtype):
    """The first and last value of a block, a tensor's end, and nothing that is finite."""
    size = 2 * BLOCK_ITEMS + 5
    places = [0, BLOCK_ITEMS - 1, BLOCK_ITEMS, 2 * BLOCK_ITEMS, size - 1]
    if dtype == mx.float32:
        size, places = 1000, [0, 999]
    tensor = mx.full((size,), float(mx.finfo(dtype).max), dtype)
    tensor[mx.array(places)] = mx.array(-np.inf, dtype)
    mx.save_safetensors(str(tmp_path / "x.safetensors"), {"a": tensor, "b": mx.ones(3, dtype)})
    (found,) = damaged([tmp_path / "x.safetensors"])
    assert found == Damage(tmp_path / "x.safetensors", "a", len(places))


def test_scales_of_the_microscaling_formats(tmp_path):
    path = tmp_path / "x.safetensors"
    scales = mx.array([1, 255, 127], mx.uint8)
    mx.save_safetensors(str(path), {"x.scales": scales, "x.weight": scales})
    assert list(damaged([path])) == [Damage(path, "x.scales", 1)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "can't be read as JSON"),
        (lambda folder: (folder / "mimi.safetensors").unlink(), "mimi.safetensors is missing"),
        (lambda folder: (folder / "mimi.safetensors").write_bytes(b"x" * 99), "is damaged"),
        (lambda folder: (folder / "tokenizer.model").write_bytes(b"x"), "no SentencePiece model"),
        (lambda folder: cut(folder / "model.safetensors"), "cut short in"),
        (lambda folder: set_key(folder, dim=64), "has shape"),
        (lambda folder: set_key(folder, num_layers=7), "lacks transformer.layers.6"),
    ],
)
def test_what_else_is_wrong_is_one_problem(model, change, says):
    change(model)
    (line,) = check_model(str(model))
    assert line.level == PROBLEM and says in line.text and "\n" not in line.text


def cut(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-100])


def set_key(folder, **keys):
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | keys))


def test_a_model_that_is_not_here_is_never_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with serving(monkeypatch) as hub:
        (line,) = check_model("kyutai/moshi-test")
        assert line.level == PROBLEM and "isn't on this machine" in line.text
        assert hub.requests == []
    (line,) = check_model("no such folder")
    assert line.level == PROBLEM and "neither a folder here" in line.text


def test_the_command_shows_it_and_keeps_it_out_of_reports(model, capsys):
    spoil(model, "out_norm.alpha")
    args = parsed(doctor, "--quick", "--model", str(model))
    assert doctor.run(args, lambda *_, **__: M4_MAX) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "out_norm.alpha has 1 value that is not finite" in shown
    args = parsed(doctor, "--quick", "--json", "--model", str(model))
    assert doctor.run(args, lambda *_, **__: M4_MAX) == 1
    said = capsys.readouterr().out
    report = json.loads(said)
    assert report["worst"] == PROBLEM
    line = report["lines"][-2]
    assert (line["level"], line["title"], line["text"]) == (PROBLEM, "model", None)


def test_names_in_a_config_are_not_told(model, capsys):
    set_key(model, model_type="\x1b[31mmoshi")
    args = parsed(doctor, "--quick", "--model", str(model))
    assert doctor.run(args, lambda *_, **__: M4_MAX) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_revision_without_a_model_is_a_wrong_command_line(capsys):
    with pytest.raises(UsageError, match="give --model too"):
        doctor.run(parsed(doctor, "--quick", "--revision", "v1"), lambda *_, **__: M4_MAX)
    assert cli.main(["doctor", "--quick", "--offline", "--revision", "v1"]) == 2
