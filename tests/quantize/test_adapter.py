"""`moshi quantize SOURCE TARGET --lora FILE`: merged, then quantized, as a hand-merged model is."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.cli import main
from moshi_mlx.errors import WeightsError
from moshi_mlx.tensor_files.reading import read_safetensors
from quantize.checkpoint.checkpoint import fingerprint, open_checkpoint
from quantize.checkpoint.entries import entries_of
from quantize.push.push import model_card
from quantize.report.report import FILE, from_json
from tests.support.models.talking_folder import PERSONA, talking_folder

LORA_Q, LORA = PERSONA / "lora_q", PERSONA / "lora"
SCALING = 2.0


def quantize(*args):
    return main(["quantize", *map(str, args)])


def merged_by_hand(base, lora, path):
    """PyTorch's names in both, whole tensors and stacked slices: numpy alone, rounded to bf16."""
    weights, pairs = (
        {name: np.array(t.astype(mx.float32)) for name, t in read_safetensors(file).items()}
        for file in (base, lora)
    )
    for name, a in pairs.items():
        layer, _, kind = name.partition(".lora_")
        if not kind:
            weights[name] = a
        if not kind.startswith("A"):
            continue
        delta = SCALING * pairs[f"{layer}.lora_B.weight"] @ a
        for part, whole in (("in_projs", "in_proj_weight"), ("out_projs", "out_proj.weight")):
            if f".{part}." in layer:
                head, number = layer.split(f"{part}.")
                rows = slice(int(number) * len(delta), (int(number) + 1) * len(delta))
                weights[head + whole][rows] += delta
                break
        else:
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + delta
    rounded = {name: mx.array(t).astype(mx.bfloat16) for name, t in weights.items()}
    mx.save_safetensors(str(path), rounded)


@pytest.fixture
def source(tmp_path):
    return talking_folder(tmp_path / "source", LORA_Q)


@pytest.fixture
def by_hand(tmp_path):
    folder = talking_folder(tmp_path / "by-hand", LORA_Q)
    merged_by_hand(
        LORA_Q / "model.safetensors", LORA_Q / "lora.safetensors", folder / "model.safetensors"
    )
    return folder


def same_weights(one, other, recipe):
    a, b = (read_safetensors(f / f"model.{recipe}.safetensors") for f in (one, other))
    assert set(a) == set(b)
    return all(mx.array_equal(a[name], b[name]).item() for name in a)


@pytest.fixture
def keep(tmp_path):
    """A recipe of one's own that rounds nothing but the source to bf16."""
    path = tmp_path / "keep.json"
    path.write_text(json.dumps({"*": "keep"}))
    return path


@pytest.mark.parametrize("recipe", ["q8", "q4"])
def test_the_target_is_that_of_a_model_merged_by_hand(source, by_hand, tmp_path, recipe):
    options = ("--recipe", recipe, "--lora", LORA_Q / "lora.safetensors")
    assert quantize(source, tmp_path / "made", *options) == 0
    assert quantize(by_hand, tmp_path / "wanted", *options[:2]) == 0
    assert quantize(source, tmp_path / "plain", *options[:2]) == 0
    assert same_weights(tmp_path / "made", tmp_path / "wanted", recipe)
    assert not same_weights(tmp_path / "made", tmp_path / "plain", recipe)


def test_the_target_is_a_plain_model_that_says_what_is_in_it(source, tmp_path):
    lora = LORA_Q / "lora.safetensors"
    assert quantize(source, tmp_path / "made", "--recipe", "q8", "--lora", lora) == 0
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["quantization"]["adapter"] == {"name": "lora_q", "scaling": SCALING}
    assert not any(key.startswith("lora") for key in config)
    merged = moshi_mlx.load_lm(source, dtype="float32", lora=lora)
    found = moshi_mlx.load_lm(tmp_path / "made", dtype="float32")
    codes = np.random.default_rng(0).integers(0, 40, (1, 1 + found.config.n_q, 30))
    for made, want in zip(found.forward(codes), merged.forward(codes), strict=True):
        off = np.nanmean(np.abs(np.array(made) - np.array(want)))
        assert off < 0.05 * np.nanstd(np.array(want))


def test_the_report_compares_with_the_merged_model(source, tmp_path, capsys):
    lora = LORA_Q / "lora.safetensors"
    assert quantize(source, tmp_path / "made", "--recipe", "q8", "--lora", lora) == 0
    report = json.loads((tmp_path / "made" / "quantize_report.json").read_text())
    assert report["mean_error"] < 0.02
    for options, error, note in (((), 0.05, True), (("--lora", lora), 0.02, False)):
        name = tmp_path / f"report{len(options)}.json"
        capsys.readouterr()
        assert quantize("report", source, tmp_path / "made", "--json", name, *options) == 0
        found = json.loads(name.read_text())["mean_error"]
        assert (found > error) if note else (found < error)
        assert ("holds an adapter" in capsys.readouterr().out) is note


def test_calibrated_it_is_that_of_a_model_merged_by_hand(source, by_hand, tmp_path):
    codes = tmp_path / "codes"
    codes.mkdir()
    np.save(codes / "a.npy", np.random.default_rng(0).integers(0, 40, (5, 60)).astype(np.int32))
    options = ("--recipe", "q4", "--calibrate", codes)
    assert quantize(by_hand, tmp_path / "wanted", *options) == 0
    options += ("--lora", LORA_Q / "lora.safetensors")
    assert quantize(source, tmp_path / "made", *options) == 0
    assert same_weights(tmp_path / "made", tmp_path / "wanted", "q4")


def test_recordings_are_answered_by_the_adapted_model(source, tmp_path, capsys):
    """The talker needs a Mimi, a tokenizer, and the adapter: all of them the source's."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    shutil.copyfile(PERSONA.parent / "voice_rms.flac", sounds / "a.flac")
    options = ("--recipe", "q4", "--calibrate", sounds, "--lora", LORA_Q / "lora.safetensors")
    assert quantize(source, tmp_path / "made", *options) == 0
    assert quantize(source, tmp_path / "plain", *options[:4]) == 0
    made, plain = (
        json.loads((tmp_path / name / "config.json").read_text())["quantization"]["rounding"]
        for name in ("made", "plain")
    )
    assert made.startswith("gptq, ") and made != plain  # other talk, other codes


def test_the_adapter_that_a_config_names_is_merged_unasked(source, by_hand, tmp_path):
    raw = json.loads((source / "config.json").read_text())
    raw |= {"lora": True, "lora_name": "lora.safetensors", "lora_rank": 4, "lora_scaling": SCALING}
    (source / "config.json").write_text(json.dumps(raw))
    shutil.copyfile(LORA_Q / "lora.safetensors", source / "lora.safetensors")
    assert quantize(source, tmp_path / "made", "--recipe", "q8") == 0
    assert quantize(by_hand, tmp_path / "wanted", "--recipe", "q8") == 0
    assert same_weights(tmp_path / "made", tmp_path / "wanted", "q8")
    assert "lora_name" not in json.loads((tmp_path / "made" / "config.json").read_text())
    moshi_mlx.load_lm(tmp_path / "made")


def test_fine_tuned_embeddings_come_along(tmp_path, keep):
    base, hand = (talking_folder(tmp_path / name, PERSONA / "base") for name in ("base", "hand"))
    lora = LORA / "lora_embed.safetensors"
    merged_by_hand(PERSONA / "base" / "model.safetensors", lora, hand / "model.safetensors")
    assert quantize(base, tmp_path / "made", "--recipe", keep, "--lora", lora) == 0
    assert quantize(hand, tmp_path / "wanted", "--recipe", keep) == 0
    assert same_weights(tmp_path / "made", tmp_path / "wanted", "keep")


def test_rows_are_the_same_in_blocks_of_any_size(source):
    checkpoint = open_checkpoint(str(source), lora=LORA_Q / "lora.safetensors")
    shapes = checkpoint.source.shapes
    for entry in entries_of(shapes, checkpoint.config, str(source)):
        whole, parts = (
            np.concatenate([rows for _, rows in checkpoint.source.row_blocks(entry, size)])
            for size in (1 << 30, 1000)
        )
        assert np.array_equal(whole, parts), entry.name


def test_a_model_card_names_the_adapter(source, tmp_path):
    lora = LORA_Q / "lora.safetensors"
    for name, options in (("made", ("--lora", lora)), ("plain", ())):
        assert quantize(source, tmp_path / name, "--recipe", "q8", *options) == 0
        card = model_card("me/x", from_json(tmp_path / name / FILE), None, text_only=False)
        assert ("with the adapter `lora_q` merged" in card) is (name == "made")


def test_another_adapter_is_another_source(source, tmp_path):
    """What an interrupted run with one adapter left is no beginning for another."""
    plain = open_checkpoint(str(source))
    one = open_checkpoint(str(source), lora=LORA_Q / "lora.safetensors")
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copyfile(LORA_Q / "lora.safetensors", folder / "lora.safetensors")
    (folder / "config.json").write_text('{"lora_scaling": 1.0}')
    other = open_checkpoint(str(source), lora=folder)
    assert len({fingerprint(checkpoint) for checkpoint in (plain, one, other)}) == 3


def test_adapters_that_do_not_fit_are_one_line_and_leave_nothing(source, tmp_path, capsys):
    out = tmp_path / "out"
    for lora, line in (
        (LORA / "lora.safetensors", "is of another model"),
        (tmp_path / "none.safetensors", "neither a folder here nor a repository"),
        (PERSONA / "base", "has no adapter"),
    ):
        assert quantize(source, out, "--lora", lora) == 1
        error = capsys.readouterr().err
        assert line in error and error.startswith("error: ") and error.count("\n") == 1
    helium = PERSONA.parent / "helium"
    assert quantize(helium, out, "--lora", LORA_Q / "lora.safetensors") == 1
    assert "a text model takes no adapter" in capsys.readouterr().err
    quantized = talking_folder(tmp_path / "q4", LORA_Q, "model.q4.safetensors")
    assert quantize(quantized, out, "--lora", LORA_Q / "lora.safetensors") == 1
    assert "is quantized already" in capsys.readouterr().err
    assert not out.exists() and not list(tmp_path.glob(".out*"))


def test_damaged_base_weights_are_found_under_an_adapter(source, tmp_path, capsys):
    tensors = read_safetensors(source / "model.safetensors")
    tensors["text_linear.weight"] = tensors["text_linear.weight"] * float("nan")
    mx.save_safetensors(str(source / "model.safetensors"), tensors)
    assert quantize(source, tmp_path / "out", "--lora", LORA_Q / "lora.safetensors") == 1
    assert "text_linear.weight of the source is damaged" in capsys.readouterr().err
    with pytest.raises(WeightsError):
        moshi_mlx.load_lm(source, lora=LORA_Q / "lora.safetensors")
