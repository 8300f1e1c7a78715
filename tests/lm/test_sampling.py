"""Draws against the distribution that PyTorch's multinomial draws from, over many frames."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.config.lm_config import SamplingConfig
from moshi_mlx.lm.sampling import (
    BLOCK,
    Sampler,
    blocks_for,
    keep_top_p,
    kth_largest,
    samplers,
)

DRAWS = 40_000
V = 12


def frequencies(sampler: Sampler, logits: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    noise = mx.random.gumbel((DRAWS, V), key=mx.random.key(seed))
    rows = mx.broadcast_to(mx.array(logits), (DRAWS, V))
    tokens = np.array(sampler(rows, mx.array([temperature]), noise))
    return np.bincount(tokens, minlength=V) / DRAWS


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def of_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """PyTorch's sample_top_k: softmax, the k likeliest, divided by their sum."""
    probs = softmax(logits)
    kept = np.argsort(-probs)[:k]
    found = np.zeros(V)
    found[kept] = probs[kept]
    return found / found.sum()


def of_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """PyTorch's sample_top_p: the likeliest until those before one sum to more than p."""
    probs = softmax(logits)
    order = np.argsort(-probs)
    before = np.cumsum(probs[order]) - probs[order]
    found = np.zeros(V)
    found[order[before <= p]] = probs[order[before <= p]]
    return found / found.sum()


@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 3, V, 10 * V])
def test_top_k_draws_as_pytorch_does(top_k: int, temperature: float) -> None:
    logits = np.random.default_rng(top_k).normal(0, 2, V).astype(np.float32)
    got = frequencies(Sampler(False, top_k, 0.0), logits, temperature, seed=1)
    want = of_top_k(logits / temperature, min(top_k or V, V))
    assert not got[want == 0].any()
    np.testing.assert_allclose(got, want, atol=5 * np.sqrt(0.25 / DRAWS))


@pytest.mark.parametrize(
    ("V", "k"),
    [
        *((32_000, 25), (48_000, 25), (8_000, 25), (4_000, 50), (2_048, 250), (32_000, 250)),
        *((32_000, 1), (32_000, 31_999), (2_049, 2), (4_099, 7), (6_000, 2_000), (5, 5)),
    ],
)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_the_kept_set_is_that_of_a_full_sort_ties_and_all(V: int, k: int, dtype: mx.Dtype) -> None:
    """In bf16 there are hundreds of ties; all that equal the k-th are kept."""
    logits = np.array(mx.random.normal((3, V), dtype, key=mx.random.key(k)).astype(mx.float32))
    smallest = np.sort(logits, axis=-1)[:, -k:][:, :1]
    got = np.array(kth_largest(mx.array(logits), k))
    np.testing.assert_array_equal(got, smallest)
    assert (logits >= got).sum(axis=-1).min() >= k


@pytest.mark.parametrize(("V", "k"), [(32_000, 25), (48_000, 25), (8_000, 25), (4_000, 25)])
def test_no_block_of_a_text_vocabulary_takes_more_than_one_kernel_on_metal(V: int, k: int) -> None:
    blocks = blocks_for(V, k)
    assert V % blocks == 0 and k <= V // blocks <= BLOCK and blocks * k <= BLOCK


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_top_p_draws_as_pytorch_does_and_replaces_top_k(top_p: float) -> None:
    logits = np.random.default_rng(7).normal(0, 2, V).astype(np.float32)
    got = frequencies(Sampler(False, 2, top_p), logits, 0.8, seed=2)
    want = of_top_p(logits / np.float32(0.8), top_p)
    assert not got[want == 0].any()
    np.testing.assert_allclose(got, want, atol=5 * np.sqrt(0.25 / DRAWS))


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
def test_a_nucleus_is_cut_in_float32_whatever_the_logits_are(dtype: mx.Dtype) -> None:
    """2,048 equal ones: in bf16 their sum would run past 1 long before the last."""
    kept = keep_top_p(mx.zeros((1, 2048), dtype).astype(mx.float32), 0.5)
    assert np.isfinite(np.array(kept)).sum() == 2048  # ties stay together
    ramp = mx.array(np.linspace(0, 4, 2048), dtype)
    tokens = Sampler(False, 0, 0.5)(
        mx.broadcast_to(ramp, (500, 2048)),
        mx.array([1.0]),
        mx.random.gumbel((500, 2048), key=mx.random.key(0)),
    )
    probs = softmax(np.array(ramp.astype(mx.float32)).astype(np.float64))[::-1]
    fewest = 2048 - int((np.cumsum(probs) - probs <= 0.5).sum())
    assert int(tokens.min()) >= fewest - 16  # bf16 steps of the ramp hold ties


def test_temperature_0_is_the_best_token_whatever_the_noise() -> None:
    rows = mx.random.normal((50, V), key=mx.random.key(3))
    noise = 100 * mx.random.gumbel((50, V), key=mx.random.key(4))
    text, audio = samplers(SamplingConfig(text_temperature=0, audio_temperature=0))
    for sampler in (text, audio):
        got = np.array(sampler(rows, mx.array([0.0]), noise))
        np.testing.assert_array_equal(got, np.argmax(np.array(rows), -1))
