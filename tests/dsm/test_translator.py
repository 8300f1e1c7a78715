"""Hibiki against whole runs of Kyutai's PyTorch package, and with sound through a small Mimi."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.lm.layers.embedding import TokenEmbedding
from tests.support.small_speaker import with_codec

GOLDEN = Path(__file__).parents[1] / "golden"
GREEDY = {"text_temperature": 0.0, "audio_temperature": 0.0}


def golden(name):
    arrays = mx.load(str(GOLDEN / name / "golden.safetensors"))
    assert isinstance(arrays, dict)
    runs = json.loads((GOLDEN / name / "golden.json").read_text())
    return {key: np.array(array) for key, array in arrays.items()}, runs


@pytest.mark.parametrize(
    ("name", "coef"), [("dsm_hibiki", 1), ("dsm_hibiki", 3), ("dsm_hibiki_zero", 1)]
)
def test_a_translation_is_pytorchs_to_the_last_token(name, coef):
    arrays, runs = golden(name)
    run = f"cfg{coef}"
    translator = moshi_mlx.load_translator(GOLDEN / name, dtype="float32")
    made = translator.translate_codes(
        arrays["source_codes"], arrays["silence_codes"], cfg_coef=coef, **GREEDY
    )
    assert made.tokens.tolist() == arrays[f"{run}.text_tokens"].tolist()
    assert np.array_equal(made.codes, arrays[f"{run}.out_tokens"][1:])
    assert (made.end_output, made.text) == (runs[run]["end_output"], runs[run]["text"])


def test_a_model_that_never_ends_stops_at_the_limit():
    arrays, runs = golden("dsm_hibiki_zero")
    translator = moshi_mlx.load_translator(GOLDEN / "dsm_hibiki_zero", dtype="float32")
    made = translator.translate_codes(
        arrays["source_codes"], arrays["silence_codes"][:, :2], cfg_coef=1.0, **GREEDY
    )
    assert made.end_output is None and made.codes.shape[1] < runs["cfg1"]["wav_frames"]


@pytest.fixture(scope="module")
def with_mimi(tmp_path_factory):
    """hibiki-zero's small model beside a small Mimi of the same codes."""
    folder = with_codec(tmp_path_factory.mktemp("hibiki") / "model", "dsm_hibiki_zero")
    return moshi_mlx.load_translator(folder, dtype="float32")


def test_sound_is_translated_as_its_codes_are(with_mimi):
    """The same stream of the codec goes on into the silence; the sound is that of the codes."""
    pcm = np.random.default_rng(0).standard_normal(20_000).astype(np.float32) * 0.1
    made = with_mimi.translate(pcm, seed=0, **GREEDY)
    frames = -(-len(pcm) // 1920)
    padded = np.zeros((frames + 300) * 1920, np.float32)
    padded[: len(pcm)] = pcm
    codes = with_mimi.mimi.encode(padded)
    by_codes = with_mimi.translate_codes(codes[:, :frames], codes[:, frames:], seed=0, **GREEDY)
    assert made.tokens.tolist() == by_codes.tokens.tolist() and made.end_output is not None
    assert np.array_equal(made.codes, by_codes.codes)
    assert np.allclose(made.pcm, with_mimi.mimi.decode(made.codes), atol=1e-5)
    assert len(made.pcm) == 1920 * made.codes.shape[1]


@pytest.mark.parametrize("quantized", [False, True])
def test_a_row_is_copied_in_every_precision(quantized):
    embedding = TokenEmbedding(40, 64)
    if quantized:
        nn.quantize(embedding, group_size=32, bits=4)
    before = np.array(embedding(mx.arange(40)))
    embedding.copy_row(3, 2)
    after = np.array(embedding(mx.arange(40)))
    assert np.array_equal(after[2], before[3]) and not np.array_equal(before[2], before[3])
    assert np.array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))


def test_bad_input_is_one_line():
    arrays, _ = golden("dsm_hibiki_zero")
    translator = moshi_mlx.load_translator(GOLDEN / "dsm_hibiki_zero", dtype="float32")
    with pytest.raises(MoshiError, match="has no Mimi beside it"):
        translator.translate(np.zeros(10, np.float32))
    with pytest.raises(MoshiError, match=r"codes must be \[8, frames\]"):
        translator.translate_codes(arrays["source_codes"][:3], arrays["silence_codes"])
    with pytest.raises(MoshiError, match="can't be guided"):
        translator.translate_codes(arrays["source_codes"], arrays["silence_codes"], cfg_coef=3.0)
    with pytest.raises(ConfigError, match="no translation model"):
        moshi_mlx.load_translator(GOLDEN / "dsm_stt")
