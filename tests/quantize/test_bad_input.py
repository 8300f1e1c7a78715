"""Everything that can be wrong with a source, a target or a disk: one line, exit 1, no target."""

import json
import os
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from app.cli import main
from tests.support.models.quantize_models import write_model


@pytest.fixture
def source(tmp_path):
    write_model(tmp_path / "source")
    return tmp_path / "source"


def weights_of(source):
    return source / "model.safetensors"


def rewrite(source, change):
    tensors = dict(mx.load(str(weights_of(source))))
    change(tensors)
    mx.eval(list(tensors.values()))
    os.unlink(weights_of(source))
    mx.save_safetensors(str(weights_of(source)), tensors)


def fails(capsys, source, message, *options, target="out", status=1):
    target = source.parent / target
    assert main(["quantize", str(source), str(target), *options]) == status
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and message in said[-1], said[-1]
    assert not [n for n in os.listdir(source.parent) if n not in ("source", "file")]


def test_unknown_recipe(source, capsys):
    fails(capsys, source, "unknown recipe 'q7'; known: q8,", "--recipe", "q7", status=2)


def test_a_folder_without_weights(source, capsys):
    weights_of(source).unlink()
    (source / "mimi.safetensors").unlink()
    fails(capsys, source, "holds no safetensors file")


def test_a_folder_that_does_not_exist(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    assert main(["quantize", str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "neither a folder here nor a repository" in capsys.readouterr().err


def test_weights_of_something_else(source, capsys):
    weights_of(source).unlink()
    mx.save_safetensors(str(weights_of(source)), {"encoder.weight": mx.zeros((4, 4))})
    fails(capsys, source, "isn't a model this tool knows")


def test_a_cut_short_file(source, capsys):
    os.truncate(weights_of(source), weights_of(source).stat().st_size - 100)
    fails(capsys, source, "bytes of tensors, should hold ")


def test_not_a_safetensors_file(source, capsys):
    weights_of(source).write_bytes(b"PK\x03\x04 a zip file, as PyTorch used to write")
    fails(capsys, source, "is not a safetensors file but a PyTorch or zip archive (.bin, .pt)")


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_damaged_tensor_is_named(source, capsys, value):
    def change(tensors):
        name = "transformer.layers.1.gating.linear_in.weight"
        damaged = np.array(tensors[name].astype(mx.float32))
        damaged[17, 3] = value
        tensors[name] = mx.array(damaged).astype(mx.bfloat16)

    rewrite(source, change)
    fails(capsys, source, "transformer.layers.1.gating.linear_in.weight of the source is damaged")


def test_a_missing_tensor_is_named(source, capsys):
    rewrite(source, lambda tensors: tensors.pop("linears.1.weight"))
    fails(capsys, source, "lacks linears.1.weight")


def test_an_unknown_tensor_is_named(source, capsys):
    rewrite(source, lambda tensors: tensors.update({"emb.99.weight": mx.zeros((2, 2))}))
    fails(capsys, source, "emb.99.weight")


def test_weights_of_another_size_than_the_config(source, capsys):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"card": 41}))
    fails(capsys, source, "the config asks for")


def test_a_source_that_is_quantized_already(source, capsys):
    assert main(["quantize", str(source), str(source.parent / "small")]) == 0
    capsys.readouterr()
    assert main(["quantize", str(source.parent / "small"), str(source.parent / "out")]) == 1
    assert "quantized already" in capsys.readouterr().err
    assert not (source.parent / "out").exists()


def test_a_target_that_is_a_file_or_the_source(source, capsys):
    (source.parent / "file").write_text("x")
    fails(capsys, source, "exists: choose another name", target="file")
    fails(capsys, source, "is a file", "--force", target="file")
    fails(capsys, source, "the source's own folder", "--force", target="source")


def test_too_small_a_disk_is_told_before_the_start(source, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    fails(capsys, source, "the target needs 0.00 GB and ")


def test_a_disk_that_fills_up_on_the_way(source, capsys, monkeypatch):
    def full(self, name, *blocks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quantize.checkpoint.writer.StreamingWriter.write", full)
    fails(capsys, source, "No space left on device")


def test_a_missing_tokenizer(source, capsys):
    (source / "tokenizer.model").unlink()
    fails(capsys, source, "tokenizer.model")
