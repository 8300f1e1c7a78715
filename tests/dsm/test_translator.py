"""Hibiki against whole runs of Kyutai's PyTorch package, and with sound through a small Mimi."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx import provenance
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.lm.layers.embedding import TokenEmbedding
from moshi_mlx.provenance import Marker
from tests.support.models.small_speaker import with_codec

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
    made = with_mimi.translate(pcm, seed=0, mark=None, **GREEDY)
    frames = -(-len(pcm) // 1920)
    padded = np.zeros((frames + 300) * 1920, np.float32)
    padded[: len(pcm)] = pcm
    codes = with_mimi.mimi.encode(padded)
    by_codes = with_mimi.translate_codes(codes[:, :frames], codes[:, frames:], seed=0, **GREEDY)
    assert made.tokens.tolist() == by_codes.tokens.tolist() and made.end_output is not None
    assert np.array_equal(made.codes, by_codes.codes)
    assert np.allclose(made.pcm, with_mimi.mimi.decode(made.codes), atol=1e-5)
    assert len(made.pcm) == 1920 * made.codes.shape[1]


def noise(samples):
    return np.random.default_rng(1).standard_normal(samples).astype(np.float32) * 0.1


@pytest.mark.parametrize("mark", [True, None])
def test_a_stream_of_blocks_of_any_length_is_the_recording(with_mimi, mark):
    pcm, made = noise(40_000), []
    whole = with_mimi.translate(pcm, seed=0, mark=mark, **GREEDY)
    stream = with_mimi.stream(seed=0, mark=mark, **GREEDY)
    for block in np.split(pcm, [1, 700, 9_000, 9_001, 30_000]):
        made += stream.push(block)
    heard = len(pcm) // 1920
    assert len(made) == heard - 1 and not stream.ended  # the first one went in twice
    made += stream.finish()
    assert stream.ended and np.array_equal(np.concatenate([f.pcm for f in made]), whole.pcm)
    assert np.array_equal(np.stack([f.codes for f in made], 1), whole.codes)
    assert stream.transcript().words == with_mimi.transcript(whole).words
    words = "".join(frame.text for frame in made).split()
    assert words == stream.transcript().text.split() and len(words) > 1


def test_sound_is_marked_unless_it_is_asked_not_to_be(with_mimi):
    pcm = noise(40_000)  # its translation ends
    plain, marked, keyed = (
        with_mimi.translate(pcm, seed=0, mark=mark, **GREEDY).pcm
        for mark in (None, True, Marker(payload=9))
    )
    assert np.array_equal(plain, with_mimi.translate(pcm, seed=0, mark=False, **GREEDY).pcm)
    assert np.array_equal(marked, provenance.mark(plain))
    assert np.array_equal(keyed, provenance.mark(plain, payload=9))


def test_an_end_that_is_not_waited_for_ends_the_stream(with_mimi):
    stream = with_mimi.stream(seed=0, keep=False, **GREEDY)
    stream.push(noise(20_000))
    next(stream.finish())
    with pytest.raises(MoshiError, match="this stream has ended"):
        stream.push(noise(10))
    assert list(stream.finish()) == [] and not stream.said.codes


@pytest.mark.parametrize("pcm", [np.zeros((2, 10), np.float32), np.zeros(10, np.int16)])
def test_what_is_no_sound_is_refused(with_mimi, pcm):
    with pytest.raises(MoshiError, match="the codec takes"):
        with_mimi.stream().push(pcm)


def test_numbers_that_are_none_are_silence(with_mimi):
    broken, silenced = noise(20_000), noise(20_000)
    broken[5_000:6_000], silenced[5_000:6_000] = np.nan, 0
    heard = [with_mimi.stream(seed=0, **GREEDY).push(pcm) for pcm in (broken, silenced)]
    assert all(np.array_equal(a.pcm, b.pcm) for a, b in zip(*heard, strict=True))


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
