"""What only hibiki-zero's language model has: shared heads of keys, RoPE by halves, norms of heads.

Against a whole run of Kyutai's PyTorch package (greedy, fp32).
"""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.config import load_config
from moshi_mlx.errors import ConfigError
from moshi_mlx.lm.layers.kv_ring import Position, attend, new_ring, write
from moshi_mlx.weights import frame_cost
from moshi_mlx.weights.recipes import RECIPES

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_hibiki_zero"
GREEDY = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0}
RUN = json.loads((GOLDEN / "golden.json").read_text())["cfg1"]
ARRAYS = mx.load(str(GOLDEN / "golden.safetensors"))


@pytest.fixture(scope="module")
def lm():
    """As hibiki runs it: the row of EOS is that of PAD."""
    model = moshi_mlx.load_lm(GOLDEN, dtype="float32")
    model.text_emb.emb.weight[2] = model.text_emb.emb.weight[3]
    return model


def source(lm):
    """The user's codes of every call: the first frame twice, the end, then silence."""
    codes, silence = np.array(ARRAYS["source_codes"]), np.array(ARRAYS["silence_codes"])
    end = np.full((len(codes), 1), lm.config.card)
    return np.concatenate([codes[:, :1], codes, end, silence], axis=1)[:, : RUN["calls"]]


def test_every_token_of_a_run_is_pytorchs(lm):
    generator = lm.generator(**GREEDY)
    steps = [generator.step(codes) for codes in source(lm).T]
    assert [step.text_token for step in steps] == np.array(ARRAYS["cfg1.text_tokens"]).tolist()
    assert np.array_equal([s.sampled for s in steps], np.array(ARRAYS["cfg1.audio_tokens"]))


def test_steps_equal_the_whole_sequence(lm):
    """Teacher forced over what the golden run said: the same logits, past the ring's wrap."""
    text, audio = np.array(ARRAYS["cfg1.text_tokens"]), np.array(ARRAYS["cfg1.audio_tokens"])
    calls, config = RUN["calls"], lm.config
    assert calls > config.transformer.context
    streams = np.full((1 + config.n_q, calls), -1, np.int32)
    delays = np.array(config.delays)
    user = source(lm)
    for k in range(1 + config.n_q):  # undo the delays: call s samples time s - delay
        own = text if k == 0 else audio[:, k - 1] if k <= config.dep_q else None
        series = user[k - 1 - config.dep_q, 1:] if own is None else own[delays[k] :]
        streams[k, : len(series)] = series
    logits, _ = lm.forward(streams[None, :, : calls - 2])
    whole, stepped = np.array(logits[0]), np.array(ARRAYS["cfg1.text_logits"])[: calls - 2]
    inside = slice(0, calls - 4)
    assert np.max(np.abs(whole[inside] - stepped[inside])) < 1e-4


def test_sizes_count_the_shared_heads():
    config = load_config(GOLDEN)
    tensors = mx.load(str(GOLDEN / "model.safetensors"))
    matrices = sum(t.size for t in tensors.values() if t.ndim == 2)
    counted = [w for w in frame_cost.weights(config, RECIPES["fp32"]) if not w.copy]
    found = sum(w.num_weights for w in counted if "norm" not in w.name)
    assert found == matrices
    assert frame_cost.kv_bytes(config) == 2 * 2 * 2 * 12 * 24 * 2  # k, v; layers, heads, ...


def test_eight_bit_keys_with_shared_heads():
    """Four heads of queries on two of keys: as if each head of keys were there twice."""
    rng, length = np.random.default_rng(0), 40
    ring = new_ring(2, length, 32, mx.float32, kv_bits=8)
    repeated = new_ring(4, length, 32, mx.float32, kv_bits=8)
    for slot in range(length):
        kv = mx.array(rng.standard_normal((2, 2, 1, 32)).astype(np.float32))
        at = mx.array(slot).reshape(1, 1, 1, 1)
        ring, repeated = write(ring, kv, at), write(repeated, mx.repeat(kv, 2, axis=1), at)
    q = mx.array(rng.standard_normal((1, 4, 1, 32)).astype(np.float32))
    mask = (mx.arange(length) < 29).reshape(1, 1, 1, length)
    here = Position(mx.array(0), mx.array([0, 0, 0]), length, mask)
    shared, whole = attend(q, ring, here, 0.2), attend(q, repeated, here, 0.2)
    assert shared.shape == whole.shape == (1, 4, 1, 32)
    assert np.allclose(np.array(shared), np.array(whole), atol=1e-6)


@pytest.mark.parametrize("value", [0, 3, "2", True, None, 1.0])
def test_a_repeat_that_does_not_fit_is_refused(tmp_path, value):
    raw = json.loads((GOLDEN / "config.json").read_text()) | {"kv_repeat": value}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="kv_repeat"):
        load_config(tmp_path)
