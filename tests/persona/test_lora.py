"""LoRA adapters against Kyutai's PyTorch: merged and beside, on plain and quantized weights."""

import json
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.config import load_config
from moshi_mlx.errors import DownloadError, MoshiError, WeightsError
from moshi_mlx.tensor_files.reading import read_safetensors
from moshi_mlx.weights.lora import read_adapter
from tests.support.fakes.fake_hub import serving

GOLDEN = Path(__file__).parents[1] / "golden" / "persona"
LORA = GOLDEN / "lora" / "lora.safetensors"
GREEDY = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0}


def golden(name):
    arrays = read_safetensors(GOLDEN / name / "golden.safetensors")
    return {key: np.array(array) for key, array in arrays.items()}


def check_logits(lm, arrays, prefix):
    text, audio = lm.forward(arrays["tf.codes"])
    for made, name in ((text, f"{prefix}text_logits"), (audio, f"{prefix}logits")):
        want = arrays[name].reshape(made.shape)
        assert np.nanmax(np.abs(np.array(made) - want)) < 1e-4
        assert np.array_equal(np.isnan(np.array(made)), np.isnan(want))


def check_greedy(lm, arrays, prefix):
    generator = lm.generator(**GREEDY)
    steps = [generator.step(codes) for codes in arrays["user_codes"].T]
    assert [s.text_token for s in steps] == arrays[f"{prefix}text_tokens"].ravel().tolist()
    assert np.array_equal([s.sampled for s in steps], arrays[f"{prefix}audio_tokens"])


@pytest.mark.parametrize("mode", ["auto", "merged", "beside"])
@pytest.mark.parametrize("file", ["lora.safetensors", "lora.old_names.safetensors"])
def test_an_adapter_on_plain_weights_is_pytorchs(mode, file):
    lm = moshi_mlx.load_lm(
        GOLDEN / "base", dtype="float32", lora=GOLDEN / "lora" / file, lora_mode=mode
    )
    arrays = golden("lora")
    check_logits(lm, arrays, "unmerged.")
    check_greedy(lm, arrays, "gen.")


def test_fine_tuned_embeddings_replace_the_bases():
    file = GOLDEN / "lora" / "lora_embed.safetensors"
    lm = moshi_mlx.load_lm(GOLDEN / "base", dtype="float32", lora=file)
    check_logits(lm, golden("lora"), "embed.")


@pytest.mark.parametrize("bits", ["q4", "q8"])
def test_an_adapter_beside_quantized_weights_is_pytorchs(bits):
    base = GOLDEN / "lora_q" / f"model.{bits}.safetensors"
    lm = moshi_mlx.load_lm(base, dtype="float32", lora=GOLDEN / "lora_q" / "lora.safetensors")
    arrays = golden("lora_q")
    check_logits(lm, arrays, f"{bits}.")
    check_greedy(lm, arrays, f"{bits}.gen.")


def test_quantized_weights_take_no_merge():
    with pytest.raises(WeightsError, match="is quantized: an adapter can only be kept beside"):
        moshi_mlx.load_lm(
            GOLDEN / "lora_q" / "model.q4.safetensors",
            dtype="float32",
            lora=GOLDEN / "lora_q" / "lora.safetensors",
            lora_mode="merged",
        )


def spoilt(tmp_path, change):
    tensors = read_safetensors(LORA)
    change(tensors)
    path = tmp_path / "spoilt.safetensors"
    mx.save_safetensors(str(path), tensors)
    return path


A, B = (f"text_linear.lora_{part}.weight" for part in "AB")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.pop(B), "but not text_linear.lora_B.weight"),
        (lambda t: t.update({B: t[B][:, :3]}), "has rank 4, its partner 3"),
        (lambda t: t.update({A: t[A][:, :-1]}), "is of another model"),
        (lambda t: t.update({A: t[A].astype(mx.int32)}), "not floating point"),
        (lambda t: t.update({A: t[A][:3], B: t[B][:, :3]}), r"of different ranks \(3 to 4\)"),
        (lambda t: t.update({A: t[A] * float("nan")}), "values that are not finite"),
        (lambda t: t.update({"text_linea.lora_A.weight": t[A]}), "layers that this model lacks"),
        (lambda t: (t.clear(), t.update({"x": mx.zeros(1)})), "none of its names fits a layer"),
    ],
)
def test_a_bad_adapter_is_refused_by_name(tmp_path, change, line):
    path = spoilt(tmp_path, change)
    with pytest.raises(WeightsError, match=line):
        read_adapter(path, load_config(GOLDEN / "base"), 2.0)


def test_an_adapter_of_another_model_and_a_mode_that_there_is_not_are_refused():
    with pytest.raises(WeightsError, match="is of another model"):
        moshi_mlx.load_lm("nano", lora=LORA)
    with pytest.raises(MoshiError, match="no lora_mode 'both'"):
        moshi_mlx.load_lm(GOLDEN / "base", lora=LORA, lora_mode=cast(Any, "both"))


def test_the_scaling_is_that_of_the_adapters_config(tmp_path):
    raw = json.loads((GOLDEN / "lora" / "config.json").read_text()) | {"lora_scaling": 0.0}
    for name in ("lora", "lora_name", "moshi_name"):
        raw.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "lora.safetensors").write_bytes(LORA.read_bytes())
    lm = moshi_mlx.load_lm(GOLDEN / "base", dtype="float32", lora=tmp_path / "lora.safetensors")
    arrays = golden("lora")
    text, _ = lm.forward(arrays["tf.codes"])
    assert np.nanmax(np.abs(np.array(text) - arrays["base.text_logits"][:, 0])) < 1e-4


def test_a_config_that_names_its_adapter_is_loaded_with_it(tmp_path):
    """`lora: true` alone is a model whose weights are merged already."""
    raw = json.loads((GOLDEN / "lora" / "config.json").read_text())
    raw |= {"moshi_name": "model.safetensors"}
    (tmp_path / "model.safetensors").write_bytes((GOLDEN / "base/model.safetensors").read_bytes())
    (tmp_path / "lora.safetensors").write_bytes(LORA.read_bytes())
    arrays = golden("lora")
    for changed, name in (({}, "unmerged.text_logits"), ({"lora_name": None}, "base.text_logits")):
        (tmp_path / "config.json").write_text(json.dumps(raw | changed))
        text, _ = moshi_mlx.load_lm(tmp_path, dtype="float32").forward(arrays["tf.codes"])
        assert np.nanmax(np.abs(np.array(text) - arrays[name][:, 0])) < 1e-4
    (tmp_path / "config.json").write_text(json.dumps(raw | {"lora_name": "../lora.safetensors"}))
    with pytest.raises(MoshiError, match="lora_name"):
        moshi_mlx.load_lm(tmp_path)


def test_an_adapter_alone_is_no_model_and_a_model_no_adapter(tmp_path):
    """moshi-finetune's folder holds an adapter and the base's config."""
    raw = json.loads((GOLDEN / "lora" / "config.json").read_text())
    for name in ("lora_name", "moshi_name"):
        raw.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "lora.safetensors").write_bytes(LORA.read_bytes())
    with pytest.raises(WeightsError, match="holds an adapter and no model: give it as the adapter"):
        moshi_mlx.load_lm(tmp_path)
    lm = moshi_mlx.load_lm(GOLDEN / "base", dtype="float32", lora=tmp_path)
    check_greedy(lm, golden("lora"), "gen.")
    with pytest.raises(WeightsError, match=r"has no adapter \(lora.safetensors\)"):
        moshi_mlx.load_lm(GOLDEN / "base", lora=GOLDEN / "base")


@pytest.mark.parametrize("scaling", ["2", True, None, 1e9])
def test_a_scaling_that_is_no_number_is_refused(tmp_path, scaling):
    raw = json.loads((GOLDEN / "lora" / "config.json").read_text()) | {"lora_scaling": scaling}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "lora.safetensors").write_bytes(LORA.read_bytes())
    with pytest.raises(MoshiError, match="lora_scaling must be a number"):
        moshi_mlx.load_lm(GOLDEN / "base", lora=tmp_path / "lora.safetensors")


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(monkeypatch) as server:
        yield server


def files_of(folder, *names):
    return {name: (folder / name).read_bytes() for name in names}


def test_adapters_come_from_the_hub_alone_and_with_their_model(fake):
    alone = files_of(GOLDEN / "lora", "config.json", "lora.safetensors")
    raw = json.loads(alone["config.json"])
    raw |= {"moshi_name": None, "lora_name": None}
    alone["config.json"] = json.dumps(raw).encode()
    fake.repositories["somebody/pirate"] = alone | {"huge.bin": b"x" * 1000}
    both = files_of(GOLDEN / "base", "model.safetensors") | alone
    raw |= {"moshi_name": "model.safetensors", "lora_name": "lora.safetensors"}
    fake.repositories["somebody/both"] = both | {"config.json": json.dumps(raw).encode()}
    arrays = golden("lora")
    for lm in (
        moshi_mlx.load_lm(GOLDEN / "base", dtype="float32", lora="somebody/pirate"),
        moshi_mlx.load_lm("somebody/both", dtype="float32"),
    ):
        check_greedy(lm, arrays, "gen.")
    assert not any("huge" in path for _, path, _ in fake.requests)
    with pytest.raises(DownloadError, match="somebody/pirate holds an adapter and no model"):
        moshi_mlx.load_lm("somebody/pirate")
    fake.repositories["kyutai/base"] = files_of(GOLDEN / "base", "config.json", "model.safetensors")
    with pytest.raises(DownloadError, match="kyutai/base holds no adapter"):
        moshi_mlx.load_lm(GOLDEN / "base", lora="kyutai/base")
    assert not any("model" in path for _, path, _ in fake.requests if "kyutai/base/resolve" in path)
