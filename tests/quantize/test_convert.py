"""moshi quantize, source to target: the same bits as nn.quantize, whole or not at all."""

import json
import os

import mlx.core as mx
import numpy as np
import pytest

from app.cli import main
from moshi_mlx.weights.formats import dequantize
from moshi_mlx.weights.loading import load_lm
from quantize.checkpoint import convert as convert_module
from quantize.checkpoint import target as target_module
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.target import make_target
from quantize.recipe.recipes import RECIPES
from tests.support.models.quantize_models import (
    RAW_CONFIG,
    nn_quantized,
    random_weights,
    write_model,
)

SETTINGS = {"q4": (4, 32), "q8": (8, 64)}


def bits_of(array):
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def quantize(*args):
    return main(["quantize", *map(str, args)])


@pytest.mark.parametrize("layout", ["pytorch", "mlx"])
@pytest.mark.parametrize("recipe", ["q4", "q8"])
def test_the_same_bits_as_nn_quantize_with_kyutais_settings(tmp_path, layout, recipe, monkeypatch):
    monkeypatch.setattr(convert_module, "BLOCK_BYTES", 10_000)  # several blocks a tensor
    weights = write_model(tmp_path / "source", layout=layout)
    assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", recipe) == 0
    made = mx.load(str(tmp_path / "out" / f"model.{recipe}.safetensors"))
    truth = nn_quantized(weights, *SETTINGS[recipe])
    assert set(made) == set(truth)
    for name, values in truth.items():
        assert made[name].dtype == values.dtype, name
        assert np.array_equal(bits_of(made[name]), bits_of(values)), name


# Formats of 4 and 8 bits floating point: the largest error of a weight, as a share of the largest
# in its group: half of the widest gap between values (2 of 6), what lies above the last value, and
# the rounding of the scales.
FLOAT_BOUND = {"mxfp4": 0.34, "nvfp4": 0.22, "mxfp8": 0.13}


def rms(x):
    return mx.sqrt(mx.mean(x**2))


def check_bounds(original, parts, restored, chosen):
    """Affine: values lie on a grid of steps of one scale, which starts at the group's larger end
    (stretched by up to half a step to hit it); bf16 scales add up to 1/128 of the largest."""
    grouped = (original.shape[0], -1, chosen.group_size)
    off = mx.abs(restored - original).reshape(grouped)
    largest = mx.abs(original).reshape(grouped).max(axis=-1)
    if chosen.mode != "affine":
        assert float((off.max(axis=-1) / largest).max()) < FLOAT_BOUND[chosen.mode]
        return
    step = mx.abs(parts[1].astype(mx.float32))
    assert bool((off.max(axis=-1) <= 1.5 * step + largest / 128).all())
    # Evenly spread over a step: 0.289 of it.
    assert float(rms(off)) < 0.35 * float(rms(step)) + float(rms(largest)) / 512


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_loads_without_a_flag_and_keeps_the_weights_in_bounds(tmp_path, recipe):
    weights = write_model(tmp_path / "source")
    assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", recipe) == 0
    lm = load_lm(tmp_path / "out", dtype="float32")
    codes = np.random.default_rng(0).integers(0, 40, (1, 5, 20))
    text, audio = lm.forward(codes)
    reference = load_lm(tmp_path / "source", dtype="float32").forward(codes)[0]
    assert np.isfinite(np.array(text)).all() and audio is not None
    error = float(rms(text - reference) / rms(reference))
    assert error < (0.05 if recipe == "q8" else 0.8)
    checkpoint = open_checkpoint(str(tmp_path / "source"))
    made = mx.load(str(tmp_path / "out" / f"model.{recipe}.safetensors"))
    for planned in target_module.plan_of(checkpoint, RECIPES[recipe]):
        chosen = planned.chosen
        original = weights[planned.entry.name].astype(mx.float32)
        if chosen is None:
            restored = made[planned.entry.name].astype(mx.float32)
            assert mx.array_equal(restored, original)
            continue
        module = planned.entry.module
        parts = [
            made[f"{module}.{k}"] for k in ("weight", "scales", "biases") if f"{module}.{k}" in made
        ]
        restored = dequantize(parts, chosen)
        check_bounds(original, parts, restored, chosen)


def test_the_target_is_complete_and_says_how_it_was_made(tmp_path):
    write_model(tmp_path / "source")
    assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", "mixed-4-6") == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["moshi_name"] == "model.mixed-4-6.safetensors"
    assert (tmp_path / "out" / config["mimi_name"]).read_bytes() == b"mimi"
    assert (tmp_path / "out" / config["tokenizer_name"]).read_bytes() == b"pieces"
    made = config["quantization"]
    assert made["recipe"]["name"] == "mixed-4-6" and made["source"] == "source"
    assert made["tool"].startswith("moshi quantize") and 4.5 < made["bits_per_weight"] < 7
    _, metadata = mx.load(str(tmp_path / "out" / config["moshi_name"]), return_metadata=True)
    assert json.loads(metadata["quantization"])["recipe"] == made["recipe"]
    assert str(tmp_path) not in json.dumps(config) + json.dumps(metadata)
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


def test_widths_that_no_group_divides_fall_back_and_are_named(tmp_path, capsys):
    raw = RAW_CONFIG | {"dim": 96, "hidden_scale": 2.75, "num_heads": 4}  # hidden 176
    write_model(tmp_path / "source", raw)
    assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", "q8") == 0
    said = capsys.readouterr().out
    assert "width 96: 8 bit, group 32 instead of 8 bit, group 64" in said
    assert "transformer.layers.*.gating.linear_out (3), width 176: kept in bf16" in said
    load_lm(tmp_path / "out")


def test_an_interrupted_run_leaves_no_target_and_is_gone_on_with(tmp_path, monkeypatch):
    write_model(tmp_path / "source")
    assert quantize(tmp_path / "source", tmp_path / "whole") == 0
    calls = []

    def interrupted(planned, *rest):
        calls.append(planned.entry.name)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return honest(planned, *rest)

    honest = convert_module._round
    with monkeypatch.context() as patch:
        patch.setattr(convert_module, "_round", interrupted)
        assert quantize(tmp_path / "source", tmp_path / "out") == 130
    assert not (tmp_path / "out").exists()
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(
            convert_module, "_round", lambda p, *r: (calls.append(p.entry.name), honest(p, *r))[1]
        )
        assert quantize(tmp_path / "source", tmp_path / "out") == 0
    everything = len(random_weights(RAW_CONFIG))
    assert 0 < len(calls) < everything - 10
    for name in ("model.q4.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out", "source", "whole"]


def test_a_target_begun_with_another_recipe_or_source_is_begun_anew(tmp_path, monkeypatch):
    write_model(tmp_path / "source")
    with monkeypatch.context() as patch:
        patch.setattr(
            target_module, "_complete", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", "q8") == 130
    assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", "q4") == 0
    assert not list((tmp_path / "out").glob("*q8*"))
    load_lm(tmp_path / "out")


def test_force_replaces_a_target_only_when_the_new_one_is_whole(tmp_path, capsys):
    write_model(tmp_path / "source")
    assert quantize(tmp_path / "source", tmp_path / "out", "--recipe", "q8") == 0
    assert quantize(tmp_path / "source", tmp_path / "out") == 1
    assert "exists: choose another name, or replace it with --force" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.q8.safetensors").exists()
    assert quantize(tmp_path / "source", tmp_path / "out", "--force") == 0
    assert not (tmp_path / "out" / "model.q8.safetensors").exists()
    load_lm(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


def test_fp32_sources_become_bf16_scales(tmp_path):
    weights = write_model(tmp_path / "source", layout="mlx")
    path = str(tmp_path / "source" / "model.safetensors")
    mx.save_safetensors(path, {k: v.astype(mx.float32) for k, v in weights.items()})
    outcome = make_target(
        open_checkpoint(str(tmp_path / "source")), tmp_path / "out", RECIPES["q4"]
    )
    truth = nn_quantized(weights, 4, 32)
    for name, values in mx.load(str(outcome.weights)).items():
        assert np.array_equal(bits_of(values), bits_of(truth[name])), name
