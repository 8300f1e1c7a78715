"""moshi quantize for models that listen, speak and translate: every recipe, and what it costs."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moshi_mlx
from app.cli import main
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.loading import save_lm
from tests.support.models.frames import LAYERS, NARROW, narrow

MODELS = ("stt-1b", "stt-2.6b", "tts-1.6b", "tts-0.75b", "hibiki-1b", "hibiki-2b", "hibiki-zero")
# Recipe -> mean error of the text logits at most, as a share of their spread.
RECIPES = {"q8": 0.03, "mixed-4-6": 0.4}
Q4_ERROR = 0.4
SMALLER = {"card": 256}  # a code's table has fewer rows than published, each quantized as there


@cache
def source(model: str, depth_layers: int = LAYERS) -> Lm:
    return narrow(model, "bf16", "bfloat16", **SMALLER, depformer_num_layers=depth_layers)


def written(model: str, folder: Path, depth_layers: int = LAYERS) -> Path:
    folder.mkdir()
    raw = {**raw_preset(model), **NARROW, "hidden_scale": 4.5, **SMALLER}
    raw |= {"depformer_num_layers": depth_layers}
    raw |= {"mimi_name": "mimi.safetensors", "tokenizer_name": "tokenizer.model"}
    (folder / "config.json").write_text(json.dumps(raw))
    for name in ("mimi.safetensors", "tokenizer.model"):
        (folder / name).write_bytes(b"as it is")
    save_lm(source(model, depth_layers), folder / "model.safetensors")
    return folder


def text_logits(lm: Lm, codes: np.ndarray) -> np.ndarray:
    return np.array(lm.forward(codes)[0])[:, :-1]


@dataclass(frozen=True)
class Original:
    """A model's folder, and what it says in float32 of some codes."""

    folder: Path
    codes: np.ndarray
    logits: np.ndarray
    nbytes: int


@pytest.fixture(scope="module", params=MODELS)
def original(request, tmp_path_factory) -> Original:
    folder = written(request.param, tmp_path_factory.mktemp("original") / request.param)
    whole = moshi_mlx.load_lm(folder, dtype="float32")
    rng, config = np.random.default_rng(0), whole.config
    text = rng.integers(0, config.text_card_out, (1, 1, 12))
    codes = np.concatenate([text, rng.integers(0, config.card, (1, config.n_q, 12))], 1)
    return Original(folder, codes, text_logits(whole, codes), size_of(whole))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_of_delayed_streams(original: Original, recipe: str, tmp_path: Path) -> None:
    made, folder = tmp_path / "made", str(original.folder)
    assert main(["quantize", folder, str(made), "--recipe", recipe]) == 0
    lm = moshi_mlx.load_lm(made, dtype="float32")
    found, want = text_logits(lm, original.codes), original.logits
    assert 0 < np.abs(found - want).mean() <= RECIPES[recipe] * want.std()
    options: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}
    step = lm.generator(**options, compiled=False).step(np.zeros(lm.config.user_q, np.int32))
    assert len(step.sampled) == lm.config.dep_q
    assert size_of(lm) < 0.6 * original.nbytes  # of float32


def own_run(lm: Lm, frames: int = 24) -> np.ndarray:
    """Codes of a run of the model itself, as material is stored: text, own codes, the user's."""
    rng = np.random.default_rng(1)
    generator, rows = lm.generator(seed=0, compiled=False), []
    for _ in range(frames):
        user = rng.integers(0, lm.config.card, lm.config.user_q)
        step = generator.step(user)
        rows.append([step.text_token, *step.sampled, *user])
    return np.array(rows, np.int32).T


@pytest.mark.parametrize("model", ["stt-1b", "tts-0.75b", "hibiki-zero"])
def test_calibrated_on_a_run_of_its_own(model: str, tmp_path: Path) -> None:
    folder = written(model, tmp_path / "source", depth_layers=1)
    whole = moshi_mlx.load_lm(folder, dtype="float32")
    codes = own_run(whole)
    (tmp_path / "codes").mkdir()
    np.save(tmp_path / "codes" / "run.npy", codes)
    want, errors = text_logits(whole, codes[None]), []
    for name, options in (("plain", []), ("calibrated", ["--calibrate", str(tmp_path / "codes")])):
        made = tmp_path / name
        assert main(["quantize", str(folder), str(made), "--recipe", "q4", *options]) == 0
        found = text_logits(moshi_mlx.load_lm(made, dtype="float32"), codes[None])
        errors.append(np.square(found - want).mean())
        assert 0 < np.abs(found - want).mean() <= Q4_ERROR * want.std()
    assert errors[1] < 0.9 * errors[0]


def size_of(lm: Lm) -> int:
    arrays = [array for _, array in tree_flatten(lm.parameters())]
    return sum(array.nbytes for array in arrays if isinstance(array, mx.array))
