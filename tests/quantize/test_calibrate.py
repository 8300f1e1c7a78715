"""GPTQ: MLX's bits, mlx-lm's result, the model's own layers; and less harm on unseen speech."""

import json
import os
import re
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.quant.gptq import gptq_quantize

import moshi_mlx
from app.cli import main
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.weights.formats import dequantize
from moshi_mlx.weights.recipes import Format
from quantize.calibrated import calibrate as calibrate_module
from quantize.calibrated.gptq import dequantized_arrays, gptq, inverse_factor, pack
from quantize.calibrated.streamed_lm import StreamedLm, Tokens
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.entries import entries_of
from tests.support.models.lm_goldens import GOLDEN, MODELS, golden
from tests.support.models.quantize_models import write_model
from tests.support.talks.nano_talks import held_out_kl, kept, nano, talked, write_codes


def quantize(*args):
    return main(["quantize", *map(str, args)])


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_the_bits_lie_where_mlx_looks_for_them(bits):
    steps = np.random.default_rng(bits).integers(0, 2**bits, (5, 128)).astype(np.uint8)
    ones, zeros = mx.ones((5, 2)), mx.zeros((5, 2))
    packed = mx.array(pack(steps, bits))
    assert np.array_equal(mx.dequantize(packed, ones, zeros, group_size=64, bits=bits), steps)


def inputs_and_layer(rows=96, width=256):
    """Inputs whose directions differ a hundredfold in size, as activations' do."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(width, width)) * np.geomspace(0.01, 1, width)[:, None]
    x = mx.array(rng.normal(size=(2000, width)) @ mixing).astype(mx.float32)
    return x, mx.array(rng.normal(size=(rows, width)) / 16).astype(mx.bfloat16)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_layer_comes_out_as_good_as_mlx_lms(bits):
    """The same algorithm by others; its scales stay in float32, ours are the file's bf16."""
    x, weight = inputs_and_layer()
    chosen = Format(bits, 64)
    model = nn.Sequential(nn.Linear(256, 96, bias=False))
    model.layers[0].weight = weight.astype(mx.float32)
    want = model(x)

    def error(out):
        return float(mx.square(out - want).mean())

    ours = dequantized_arrays(gptq(weight, inverse_factor(np.array(x.T @ x)), chosen), chosen)
    nearest = dequantize(tuple(mx.quantize(weight, 64, bits)), chosen)
    gptq_quantize(model, x, bits, 64, bits, 64, batch_size=2000)
    theirs = error(model(x))
    assert error(x @ ours.T) < 1.1 * theirs
    assert theirs < 0.9 * error(x @ nearest.T)  # so there was something to gain


def test_columns_that_never_fire_are_rounded_to_the_nearest():
    _, weight = inputs_and_layer()
    chosen = Format(4, 64)
    parts = gptq(weight, inverse_factor(np.zeros((256, 256), np.float32)), chosen)
    nearest = dequantize(tuple(mx.quantize(weight, 64, 4)), chosen)
    ours, theirs = (
        mx.abs(found - weight.astype(mx.float32))
        for found in (dequantized_arrays(parts, chosen), nearest)
    )
    assert (ours <= theirs + 1e-6).all()


@pytest.mark.parametrize("name", ["nano", *MODELS])
def test_stage_by_stage_is_the_model(name):
    """Text, speech to text with extra heads, conditions and cross attention, shared slices."""
    folder = nano().folder if name == "nano" else GOLDEN / name
    lm = moshi_mlx.load_lm(folder, dtype="bfloat16")  # what a target keeps
    lm.update(tree_map(lambda array: array.astype(mx.float32), lm.parameters()))
    codes = np.ones((1, 17, 20), np.int32) if name == "nano" else golden(name)["tf.codes"]
    checkpoint = open_checkpoint(str(folder))
    source, config = checkpoint.source, checkpoint.config
    assert isinstance(config, LmConfig)
    streamed = StreamedLm(config, source, entries_of(source.shapes, config, str(folder)))
    for sequence in codes:
        tokens, hidden, found = Tokens.of(sequence, config), mx.zeros(0), []
        for stage in streamed.stages():
            streamed.load(stage)
            result = stage.run(hidden, tokens)
            hidden = result.hidden
            found += [] if result.logits is None else [result.logits]
            streamed.release(stage)
        text, audio = lm.forward(sequence[None])
        want = [text[0]] if audio is None else [text[0], *audio[0]]
        ours = [stream for logits in found for stream in logits[0].swapaxes(0, 1)]
        assert len(found) == (1 if audio is None else 2) and len(ours) == len(want)
        for k, (theirs, delay) in enumerate(zip(want, config.delays, strict=False)):
            assert mx.allclose(ours[k][delay:], theirs[: len(theirs) - delay], atol=1e-4)


# 2 s of each talk, after its greeting, and 16 s of another one help enough to show; else all.
@pytest.mark.parametrize(
    ("recipe", "gain", "heard", "held_out_frames"),
    [
        ("q4", 0.75, slice(8, 32), 200),
        pytest.param("q3", 0.85, slice(None), None, marks=pytest.mark.long),
    ],
    ids=["q4", "q3"],
)
def test_calibration_helps_on_speech_that_it_never_heard(
    tmp_path, recipe, gain, heard, held_out_frames, capsys
):
    codes = write_codes(tmp_path / "codes", heard)
    assert quantize("nano", tmp_path / "plain", "--recipe", recipe) == 0
    options = ("--recipe", recipe, "--calibrate", codes)
    assert quantize("nano", tmp_path / "gptq", *options) == 0
    said = capsys.readouterr().out
    assert "calibrating on 8 conversations, " in said
    before, after = map(float, re.findall(r"([\d.]+) -> ([\d.]+) a code", said)[0])
    assert after < gain * before
    if recipe == "q3":  # in the long run: two reports take minutes
        check_gain(said, tmp_path, codes)
    name = f"model.{recipe}.safetensors"
    plain, made = (mx.load(str(tmp_path / which / name)) for which in ("plain", "gptq"))
    assert isinstance(plain, dict) and isinstance(made, dict)
    assert {k: (v.shape, v.dtype) for k, v in plain.items()} == {
        k: (v.shape, v.dtype) for k, v in made.items()
    }
    before, after = (held_out_kl(tmp_path / which, held_out_frames) for which in ("plain", "gptq"))
    print(recipe, before, after)
    assert after[1] < gain * before[1]
    assert sum(after) < gain * sum(before)


def check_gain(said, folder, codes):
    """What a run says of its gain is what the reports on both models say."""
    kl, alike = said.splitlines()[-2:]
    told = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+)%? -> ([\d.]+)", kl + alike)]
    for number, which in enumerate(("plain", "gptq")):
        out = folder / f"{which}.json"
        options = ("--audio", codes, "--frames", 1, "--json", out)
        assert quantize("report", "nano", folder / which, *options) == 0
        text, *audio = json.loads(out.read_text())["talk"]["streams"]
        codes_kl, codes_alike = (
            np.mean([s[name] for s in audio]) for name in ("kl_nats", "top1_agreement")
        )
        found = (text["kl_nats"], codes_kl, 100 * text["top1_agreement"], 100 * codes_alike)
        margins = (2e-4, 2e-2, 1.0, 1.0)
        for ours, theirs, margin in zip(told, found, margins, strict=True):
            assert ours[number] == pytest.approx(theirs, abs=margin)
    assert told[1][1] < 0.75 * told[1][0] and told[3][1] > told[3][0]


@pytest.mark.long
def test_the_talks_that_are_kept_are_the_models_own():
    """What the user said to the last code, nearly; the model's answers are drawn."""
    fresh = talked()
    assert fresh.keys() == kept().keys()
    for name, codes in kept().items():
        assert codes.shape == fresh[name].shape
        assert np.mean(codes[9:] == fresh[name][9:]) > 0.95


def test_a_run_stopped_while_calibrating_starts_anew_and_leaves_nothing(tmp_path, monkeypatch):
    write_model(tmp_path / "source")
    codes = tmp_path / "codes"
    codes.mkdir()
    np.save(codes / "a.npy", np.random.default_rng(0).integers(0, 40, (5, 60)).astype(np.int32))
    options = (tmp_path / "source", "--calibrate", codes)
    assert quantize(options[0], tmp_path / "whole", *options[1:]) == 0
    honest, calls = calibrate_module.gptq, []

    def stopped(*args):
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return honest(*args)

    monkeypatch.setattr(calibrate_module, "gptq", stopped)
    assert quantize(options[0], tmp_path / "out", *options[1:]) == 130
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(calibrate_module, "gptq", honest)
    assert quantize(options[0], tmp_path / "out", *options[1:]) == 0
    for name in ("model.q4.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["codes", "out", "source", "whole"]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--calibrate", "none"), "can't be read as a folder of recordings"),
        (("--calibrate", "source"), "mimi.safetensors can't be read as stored codes"),
        (("--talker", "nano"), "--talker is for --calibrate"),
    ],
)
def test_what_can_be_wrong_is_one_line(tmp_path, capsys, monkeypatch, options, message):
    write_model(tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    assert quantize("source", "out", *options) == (2 if message.startswith("--talker") else 1)
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and message in said[-1], said[-1]
    assert os.listdir(tmp_path) == ["source"]


def test_a_text_model_does_not_listen(capsys, tmp_path):
    options = ("--calibrate", tmp_path)
    assert quantize(GOLDEN / "helium", tmp_path / "out", *options) == 1
    assert "a text model can't listen" in capsys.readouterr().err


def test_twice_the_disk_is_needed(tmp_path, capsys, monkeypatch):
    codes = write_codes(tmp_path / "codes")
    assert quantize("nano", tmp_path / "plain") == 0
    size = (tmp_path / "plain" / "model.q4.safetensors").stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1.5 * size))
    assert quantize("nano", tmp_path / "out", "--calibrate", codes) == 1
    assert "the target needs 0.01 GB" in capsys.readouterr().err
