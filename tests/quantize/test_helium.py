"""moshi quantize on Helium: transformers' layout (also grouped, tied, in shards) and Kyutai's."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest

from app.cli import main
from moshi_mlx.helium.model import load_helium
from tests.support.models.helium_goldens import KYUTAI_CONFIG, write_tied
from tests.support.models.lm_goldens import GOLDEN


def golden(name):
    arrays = mx.load(str(GOLDEN / name / "golden.safetensors"))
    return {key: np.array(value) for key, value in arrays.items()}


def sharded(folder, where):
    """The same model as transformers splits it."""
    where.mkdir()
    shutil.copy(folder / "config.json", where)
    tensors = mx.load(str(folder / "model.safetensors"))
    names = sorted(tensors)
    half = len(names) // 2
    files = {"model-00001-of-00002.safetensors": names[:half]}
    files["model-00002-of-00002.safetensors"] = names[half:]
    for file, part in files.items():
        mx.save_safetensors(str(where / file), {name: tensors[name] for name in part})
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (where / "model.safetensors.index.json").write_text(json.dumps(index))
    return where


def kyutai(where):
    where.mkdir()
    shutil.copy(GOLDEN / "helium" / "kyutai.safetensors", where / "helium-1-tiny.safetensors")
    (where / "config.json").write_text(json.dumps(KYUTAI_CONFIG))
    return where


@pytest.mark.parametrize("layout", ["helium", "helium_grouped", "shards", "kyutai"])
def test_a_helium_of_8_bits_gives_nearly_transformers_logits(tmp_path, layout):
    source = GOLDEN / ("helium_grouped" if layout == "helium_grouped" else "helium")
    truth = golden(source.name)
    if layout == "shards":
        source = sharded(source, tmp_path / "shards")
    if layout == "kyutai":
        source = kyutai(tmp_path / "kyutai")
    recipe = tmp_path / "eight.json"
    recipe.write_text('{"*": {"bits": 8, "group_size": 32}}')
    target = tmp_path / "out"
    assert main(["quantize", str(source), str(target), "--recipe", str(recipe)]) == 0
    weights = mx.load(str(next(target.glob("model.*.safetensors"))))
    assert weights["transformer.layers.0.self_attn.in_proj.weight"].dtype == mx.uint32
    logits = np.array(load_helium(target, dtype="float32")(mx.array(truth["ids"])[None]))[0]
    error = np.sqrt(np.mean((logits - truth["logits"]) ** 2) / np.mean(truth["logits"] ** 2))
    assert 0 < error < 0.03


def test_a_helium_that_lacks_a_tensor(tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "helium", source)
    tensors = dict(mx.load(str(source / "model.safetensors")))
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    mx.eval(list(tensors.values()))
    (source / "model.safetensors").unlink()
    mx.save_safetensors(str(source / "model.safetensors"), tensors)
    assert main(["quantize", str(source), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "lacks model.layers.1.mlp.up_proj.weight" in said
    assert not (tmp_path / "out").exists()


def test_a_tied_head_that_is_stored_as_well_is_dropped(tmp_path, capsys):
    made = []
    for name, head in (("plain", None), ("stored", 0.0)):
        source = write_tied(tmp_path / name, head)
        assert main(["quantize", str(source), str(tmp_path / f"{name}-q4")]) == 0
        made.append(mx.load(str(tmp_path / f"{name}-q4" / "model.q4.safetensors")))
    assert made[0].keys() == made[1].keys() and not any("text_linear" in name for name in made[1])
    assert all(mx.array_equal(tensor, made[1][name]) for name, tensor in made[0].items())
    loaded = load_helium(tmp_path / "stored-q4")(mx.array([[1, 2, 3]]))
    assert mx.isfinite(loaded).all()
    differs = write_tied(tmp_path / "differs", 0.01)
    capsys.readouterr()
    assert main(["quantize", str(differs), str(tmp_path / "differs-q4")]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said and "tie_word_embeddings" in said
    assert not (tmp_path / "differs-q4").exists()
