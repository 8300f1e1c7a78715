"""Voices of the TTS: read, put into their slots, and refused when they are of another model."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import MoshiError, WeightsError
from moshi_mlx.tts.voices import read_voice, speakers_condition

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_tts"
ADA, BEN = (GOLDEN / f"{name}.wav.1e68beda@240.safetensors" for name in ("ada", "ben"))
MODEL = {"sig": "1e68beda", "epoch": 240}


def test_two_voices_stand_in_their_slots():
    ada, ben = read_voice(ADA, 20, MODEL), read_voice(BEN, 20, MODEL)
    stored = np.array(mx.load(str(ADA))["speaker_wavs"])
    assert np.array_equal(ada, stored[0].T) and ada.shape == (5, 20)
    latents, mask = speakers_condition([ada, ben], 20, slots=5)
    assert latents.shape == (25, 20) and mask.tolist() == [1.0] * 10 + [0.0] * 15
    assert np.array_equal(latents[:5], ada) and np.array_equal(latents[5:10], ben)
    assert not latents[10:].any()


def test_no_voice_is_all_padding():
    latents, mask = speakers_condition([], 20, slots=5)
    assert latents.shape == (625, 20) and not mask.any()


@pytest.mark.parametrize(
    ("model", "dim", "line"),
    [
        ({"sig": "00000000", "epoch": 240}, 20, "voice of another model: sig"),
        ({"sig": "1e68beda", "epoch": 7}, 20, "voice of another model: epoch"),
        (MODEL, 512, "voice of another model: "),
    ],
)
def test_a_voice_of_another_model_is_refused(model, dim, line):
    with pytest.raises(WeightsError, match=line):
        read_voice(ADA, dim, model)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"speaker_wavs": mx.zeros((20, 5))},
        {"speaker_wavs": mx.zeros((1, 20, 0))},
        {"speaker_wavs": mx.full((1, 20, 5), mx.nan)},
        {"speaker_wavs": mx.zeros((1, 20, 5)), "more": mx.zeros(1)},
        {"voice": mx.zeros((1, 20, 5))},
    ],
)
def test_what_is_no_voice_is_refused(tmp_path, tensors):
    path = tmp_path / "voice.safetensors"
    mx.save_safetensors(str(path), tensors or {"x": mx.zeros(1)})
    with pytest.raises(WeightsError):
        read_voice(path, 20, {})


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no weights at"):
        read_voice(tmp_path / "no.safetensors", 20, MODEL)
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(WeightsError, match="damaged"):
        read_voice(tmp_path / "bad.safetensors", 20, MODEL)


def test_too_many_voices_and_unequal_ones_are_refused():
    with pytest.raises(MoshiError, match="takes 2 at most"):
        speakers_condition([np.zeros((5, 20), np.float32)] * 3, 20, slots=2)
    with pytest.raises(MoshiError, match="different lengths"):
        speakers_condition([np.zeros((n, 20), np.float32) for n in (5, 6)], 20, slots=5)
