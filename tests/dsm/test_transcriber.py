"""Speech to text against whole runs of Kyutai's PyTorch package: tokens, heads, words and times."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import ConfigError, MoshiError, WeightsError
from moshi_mlx.loading.model_folder import ModelFolder, check_codec
from tests.support.models.lm_goldens import golden

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_stt"
RUN = json.loads((GOLDEN / "golden.json").read_text())["aligned"]
ARRAYS = golden("dsm_stt")
SOUND = ARRAYS["pcm_int16"].astype(np.float32) / 32768


@pytest.fixture(scope="module")
def stt():
    return moshi_mlx.load_stt(GOLDEN, dtype="float32")


@pytest.fixture(scope="module")
def whole(stt):
    return stt.transcribe(SOUND)


def test_a_file_is_heard_as_pytorch_hears_it(whole):
    assert whole.tokens.tolist() == ARRAYS["aligned.text_tokens"].tolist()
    assert [list(word) for word in whole.words] == RUN["words"]
    assert np.max(np.abs(whole.pauses - ARRAYS["aligned.extra_heads"][..., 0])) < 1e-4
    assert whole.text.startswith(whole.leading) and whole.text.endswith(RUN["words"][-1][0])


def test_sound_in_pieces_gives_the_same_words(stt, whole):
    stream, rng, at, words = stt.stream(), np.random.default_rng(0), 0, []
    while at < len(SOUND):
        size = int(rng.integers(0, 6000))
        words += stream.push(SOUND[at : at + size])
        at += size
    early = len(words)
    words += stream.finish()
    assert tuple(words) == whole.words and early > 5
    again = stream.transcript()
    assert again.tokens.tolist() == whole.tokens.tolist() and again.words == whole.words


def test_one_wait_a_frame(stt, monkeypatch):
    """Codec and language model are evaluated together, and nothing else is."""
    stream, waits, evaluate = stt.stream(), [], mx.eval
    stream.push(SOUND[:3840])
    monkeypatch.setattr(mx, "eval", lambda *a: waits.append(1) or evaluate(*a))
    stream.push(SOUND[3840 : 3840 + 5 * 1920])
    assert len(waits) == 5


def test_a_file_without_heads_loads_and_says_so_when_asked(tmp_path):
    folder = tmp_path / "mlx"
    shutil.copytree(GOLDEN, folder)
    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    kept = {name: t for name, t in tensors.items() if not name.startswith("extra_heads")}
    assert len(kept) < len(tensors)
    mx.save_safetensors(str(folder / "model.safetensors"), kept)
    stt = moshi_mlx.load_stt(folder, dtype="float32")
    stream = stt.stream()
    stream.push(SOUND[:9600])
    assert not stt.has_pauses and stream.transcript().pauses is None
    with pytest.raises(MoshiError, match="no heads for pauses"):
        _ = stream.pauses


def test_the_last_pause_can_be_asked_for(stt, whole):
    stream = stt.stream()
    assert stream.pauses.tolist() == [0.0] * 4
    stream.push(SOUND)
    assert np.allclose(stream.pauses, whole.pauses[stt.prefix_frames + len(SOUND) // 1920 - 1])


@pytest.mark.parametrize("pcm", [np.zeros((2, 10), np.float32), np.zeros(10, np.int16), "sound"])
def test_what_is_no_sound_is_refused(stt, pcm):
    with pytest.raises(MoshiError, match=r"mono|one channel|float"):
        stt.stream().push(pcm)
    with pytest.raises(MoshiError, match=r"mono|one channel|float"):
        stt.transcribe(pcm)


def test_no_sound_has_no_words_and_a_closed_stream_hears_nothing(stt):
    assert stt.transcribe(np.zeros(0, np.float32)).words == ()
    stream = stt.stream()
    stream.finish()
    assert stream.finish() == []
    with pytest.raises(MoshiError, match="has ended"):
        stream.push(np.zeros(10, np.float32))


@pytest.mark.parametrize("delay", [None, "1", -1, True])
def test_a_config_without_its_delays_is_refused(tmp_path, delay):
    folder = tmp_path / "m"
    shutil.copytree(GOLDEN, folder)
    raw = json.loads((folder / "config.json").read_text())
    raw["stt_config"] = None if delay is None else {"audio_delay_seconds": delay}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="stt_config needs"):
        moshi_mlx.load_stt(folder)


def test_a_model_that_speaks_is_refused():
    with pytest.raises(ConfigError, match="no speech to text model"):
        moshi_mlx.load_stt("nano")


@pytest.mark.parametrize("load", [moshi_mlx.load_stt, moshi_mlx.load_tts])
def test_a_mistyped_option_is_no_option(load):
    with pytest.raises(TypeError, match="revison"):
        load(GOLDEN, revison="main")


def test_a_damaged_codec_is_told_also_where_codes_would_do(tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(GOLDEN.parent / "dsm_tts", folder)
    mimi = folder / "tokenizer-e351c8d8-checkpoint125.safetensors"
    mimi.write_bytes((GOLDEN / "mimi-pytorch-e351c8d8@125.safetensors").read_bytes()[:5000])
    with pytest.raises(WeightsError, match="tokenizer-e351c8d8"):
        moshi_mlx.load_tts(folder)


def test_a_codec_of_another_model_is_refused(tmp_path):
    """Kyutai's Mimi has 2048 codes in a codebook, this one 32, and 6 codebooks for 8."""
    folder = tmp_path / "m"
    shutil.copytree(GOLDEN, folder)
    raw = json.loads((folder / "config.json").read_text())
    raw |= {"mimi_name": "other.safetensors", "mimi_config_name": "other.json"}
    (folder / "config.json").write_text(json.dumps(raw))
    tiny = GOLDEN.parent / "tiny_mimi"
    shutil.copy(tiny / "model.safetensors", folder / "other.safetensors")
    shutil.copy(tiny / "mimi_config.json", folder / "other.json")
    with pytest.raises(MoshiError, match="num_codebooks is 8; this Mimi has 1 to 6"):
        moshi_mlx.load_stt(folder)
    opened = ModelFolder(GOLDEN, None)
    other = moshi_mlx.load_mimi(tiny / "model.safetensors", tiny / "mimi_config.json", 6)
    with pytest.raises(ConfigError, match="its Mimi has 32 codes, the language model 48"):
        check_codec(other, opened.config, opened.path)
