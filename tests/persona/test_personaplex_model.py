"""PersonaPlex's language model: without the slices that predict the user, tokens as NVIDIA's."""

import json
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.cli import main
from moshi_mlx.config import load_config
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import ConfigError
from moshi_mlx.generator import LmGenerator
from moshi_mlx.lm.generator import Forced

GOLDEN = Path(__file__).parents[1] / "golden" / "persona" / "personaplex"
ARRAYS = {k: np.array(a) for k, a in mx.load(str(GOLDEN / "golden.safetensors")).items()}
SILENCE, SINE = ARRAYS["silence"], ARRAYS["sine"]
GREEDY = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0}
PAD, GAP = 3, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The small model with the sizes that the published one leaves to its readers."""
    target = tmp_path_factory.mktemp("personaplex")
    raw = json.loads((GOLDEN / "config.full.json").read_text())
    for name in ("mimi_name", "tokenizer_name"):
        raw.pop(name)
    (target / "config.json").write_text(json.dumps(raw))
    (target / "model.safetensors").write_bytes((GOLDEN / "model.safetensors").read_bytes())
    return target


def prompt_frames(voice):
    """(text, own codes) of every frame of the prompt: voice, gap, text, gap."""
    frames = [(PAD, codes) for codes in voice.T] + [(PAD, SILENCE)] * GAP
    frames += [(int(token), SILENCE) for token in ARRAYS["text_prompt"]]
    return frames + [(PAD, SILENCE)] * GAP


def conversation(generator: LmGenerator, voice, steps):
    """The prompt, forced step by step, then a free conversation."""
    frames, found = prompt_frames(voice), []
    for (_, now), (text, later) in pairwise(frames):
        generator.step(SINE, Forced(text, np.append(later[:1], now[1:])))
    last = Forced(codes=np.append(-1, frames[-1][1][1:]))
    for i in range(steps):
        user = ARRAYS["user_codes"][:, i - 1] if i else SINE
        found.append(generator.step(user, None if i else last))
    return found


@pytest.mark.parametrize(("prefix", "steps"), [("", 60), ("novoice.", 20)])
def test_a_conversation_is_nvidias_to_the_last_token(folder, prefix, steps):
    lm = moshi_mlx.load_lm(folder, dtype="float32")
    assert (lm.config.dep_q, lm.config.user_q, lm.config.mimi_codebooks) == (8, 8, 8)
    voice = np.zeros((8, 0), int) if prefix else ARRAYS["voice_codes"]
    found = conversation(lm.generator(**GREEDY), voice, steps)
    assert [s.text_token for s in found] == ARRAYS[f"{prefix}text_tokens"].tolist()
    assert np.array_equal([s.codes for s in found], ARRAYS[f"{prefix}out_tokens"][:, 1:9])


def test_the_quantized_model_holds_no_slice_that_predicts_the_user(folder, tmp_path):
    out = tmp_path / "q8"
    assert main(["quantize", str(folder), str(out), "--recipe", "q8"]) == 0
    names = mx.load(str(next(out.glob("*.safetensors"))))
    slices = {int(name.split(".")[2]) for name in names if name.startswith("depformer.slices")}
    assert slices == set(range(8))
    lm = moshi_mlx.load_lm(out, dtype="float32")
    assert lm.config.user_q == 8
    found = conversation(lm.generator(**GREEDY), ARRAYS["voice_codes"], 20)
    assert len(found) == 20


def test_the_published_config_without_sizes_is_the_7b(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "personaplex", "version": "x"}))
    config, moshi = load_config(tmp_path), parse_config(raw_preset("moshi-7b"))
    assert config.transformer == moshi.transformer and config.delays == moshi.delays
    assert (config.dep_q, config.user_q) == (8, 8)
    assert config.depth is not None and config.depth.file_weight_sets == 16


@pytest.mark.parametrize("delays", [[0, 0] + [2] * 15, [0, *([0] + [1] * 7) * 2]])
def test_a_speaker_alone_keeps_all_slices(delays):
    """Text to speech of 16 codebooks has as many slices, and nobody to listen to."""
    raw = json.loads((GOLDEN / "config.full.json").read_text())
    alone = parse_config(raw | {"delays": delays, "model_type": "tts"})
    assert (alone.dep_q, alone.user_q) == (16, 0)


@pytest.mark.parametrize("delays", [[0] * 17, [0, 0] + [2] * 15, [0, *([0] + [1] * 7) * 2]])
def test_a_personaplex_never_loses_its_user_whatever_its_delays(delays):
    raw = json.loads((GOLDEN / "config.full.json").read_text())
    config = parse_config(raw | {"delays": delays, "model_type": "personaplex"})
    assert (config.dep_q, config.user_q) == (8, 8)


def test_a_model_that_hears_nobody_is_refused_for_a_talk(tmp_path):
    raw = json.loads((GOLDEN / "config.full.json").read_text())
    raw |= {"delays": [0] * 17, "model_type": "moshi", "tokenizer_name": "", "mimi_name": ""}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="this model only speaks, nobody is heard"):
        moshi_mlx.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(raw | {"dep_q": 0}))
    with pytest.raises(ConfigError, match="doesn't speak"):
        moshi_mlx.load(tmp_path)


def test_slices_can_be_left_out_by_hand(folder):
    lm = moshi_mlx.load_lm(folder, dtype="float32", dep_q=4)
    assert lm.config.dep_q == 4
    with pytest.raises(ConfigError, match="has 8 slices, not 9"):
        moshi_mlx.load_lm(folder, dtype="float32", dep_q=9)
