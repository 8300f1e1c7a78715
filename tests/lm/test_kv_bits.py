"""Keys and values in 8 bit: what a frame hears, says, keeps and costs against 16 bit."""

import io
from argparse import ArgumentParser
from functools import cache

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.options import preferences
from app.options.model import add_model_options, load_from
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.lm.generator import Forced, LmGenerator
from moshi_mlx.lm.layers.kv_ring import Position, attend, bits_per_number, new_ring, write
from moshi_mlx.lm.model import Lm
from moshi_mlx.lm.sampling import Sampler, samplers
from moshi_mlx.weights import frame_cost
from tests.support.models.lm_goldens import GOLDEN, GREEDY
from tests.support.talks.nano_talks import held_out

KL_NATS = 1e-3
GREEDY_SAMPLER = Sampler(greedy=True, top_k=0, top_p=0.0)
CONTEXTS = 2


@cache
def nano(kv_bits: int = 16) -> Lm:
    return moshi_mlx.load_lm("nano", dtype="float32", kv_bits=kv_bits)


@cache
def talk() -> np.ndarray:
    """A conversation over several contexts, int [1, 1 + n_q, T]: questions, and nano's answers."""
    return held_out()[:, :, : CONTEXTS * (nano().config.transformer.context or 0) + 20]


def kl_nats(logits: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[T, V] each -> the divergence of each step's distribution, [T]."""

    def log_softmax(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    p, q = log_softmax(logits), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(axis=-1)


class Looks:
    """A greedy sampler that keeps the logits it is given, [V] each."""

    greedy = True

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        self.seen.append(np.array(logits.astype(mx.float32))[0])
        return mx.argmax(logits, axis=-1)


def stepped(lm: Lm, codes: np.ndarray) -> np.ndarray:
    """Text logits [T, V] of a conversation, step by step through the rings, tokens forced."""
    config, text = lm.config, Looks()
    generator = lm.generator(draws=(text, GREEDY_SAMPLER), compiled=False)
    T = codes.shape[2]
    for t in range(T):
        user = codes[0, 1 + config.dep_q :, t - 1] if t else np.zeros(config.user_q, np.int32)
        own = [
            codes[0, 1 + k, t - delay] if t >= delay else -1
            for k, delay in enumerate(config.delays[1 : 1 + config.dep_q])
        ]
        generator.step(user, Forced(int(codes[0, 0, t]), np.array(own)))
    return np.stack(text.seen)


@pytest.mark.parametrize("source", ["a talk", "noise"])
def test_text_logits_of_a_teacher_forced_run_are_those_of_16_bit(source: str) -> None:
    """Noise: codes that nobody says, so that the model is unsure and small errors show."""
    codes = talk()
    if source == "noise":
        rng = np.random.default_rng(0)
        codes = rng.integers(0, nano().config.card, codes.shape)
    context = nano().config.transformer.context or 0
    want, ours = (np.array(nano(bits).forward(codes)[0])[0] for bits in (16, 8))
    kl = kl_nats(want, ours)
    assert len(kl) > CONTEXTS * context
    assert kl[:context].mean() <= KL_NATS
    assert kl[context:].mean() <= KL_NATS
    assert not np.array_equal(want, ours)  # it was 8 bit


def test_steps_through_the_ring_give_the_same_logits_after_it_wrapped() -> None:
    context = nano().config.transformer.context or 0
    codes = talk()[:, :, : context + 50]
    want = np.array(nano(16).forward(codes)[0])[0]
    whole = np.array(nano(8).forward(codes)[0])[0]
    ours = stepped(nano(8), codes)
    assert kl_nats(want, ours)[:context].mean() <= KL_NATS
    assert kl_nats(want, ours)[context:].mean() <= KL_NATS
    assert kl_nats(whole, ours).mean() <= 1e-5  # a code may round the other way, no more
    assert np.abs(whole - ours).max() < 0.2 * np.abs(want).max()


@pytest.mark.long
def test_in_bf16_it_costs_no_more_than_bf16_itself() -> None:
    """Scales, scores and sums in float32: with those in bf16 it would be four times as much."""
    codes = np.random.default_rng(0).integers(0, nano().config.card, talk()[:, :, :300].shape)
    exact = np.array(nano(16).forward(codes)[0])[0]
    plain, ours = (
        stepped(moshi_mlx.load_lm("nano", dtype="bfloat16", kv_bits=bits), codes)
        for bits in (16, 8)
    )
    assert kl_nats(plain, ours).mean() <= 2.5e-4
    assert kl_nats(exact, ours).mean() <= 1.5 * kl_nats(exact, plain).mean()


def test_the_compiled_step_says_what_the_plain_one_says() -> None:
    user = talk()[0, 9:, :140].T

    def said(compiled: bool) -> list[list[int]]:
        generator = nano().generator(kv_bits=8, compiled=compiled, **GREEDY)
        return [[s.text_token, *s.sampled] for s in map(generator.step, user)]

    compiled, plain = said(True), said(False)
    assert np.mean(np.array(compiled) == np.array(plain)) > 0.99


def dequantized(ring: tuple[mx.array, ...], group: int) -> np.ndarray:
    """[2, H, W, D] by hand: four codes a word, lowest byte first, scale * code + bias."""
    codes, scales, biases = (np.array(part) for part in ring)
    numbers = codes.view(np.uint8).astype(np.float64)
    return numbers * np.repeat(scales, group, axis=-1) + np.repeat(biases, group, axis=-1)


@pytest.mark.parametrize(("D", "group"), [(32, 32), (64, 64), (96, 32), (128, 128)])
@pytest.mark.parametrize("steps", [5, 16, 43])
def test_attention_equals_numpys_over_the_dequantized_ring(D: int, group: int, steps: int) -> None:
    H, W = 3, 16
    rng = np.random.default_rng(steps)
    spoken = rng.standard_normal((steps, 2, H, 1, D)).astype(np.float32)
    ring = new_ring(H, W, D, mx.float32, kv_bits=8)
    for step, kv in enumerate(spoken):
        ring = write(ring, mx.array(kv), mx.full((1, 1, 1, 1), step % W, mx.int32))
    seen = min(steps, W)
    mask = None if seen == W else (mx.arange(W) < seen).reshape(1, 1, 1, W)
    at = Position(mx.zeros((1, 1, 1, 1), mx.int32), mx.zeros(3, mx.int32), W, mask)
    q = rng.standard_normal((1, H, 1, D)).astype(np.float32)
    ours = np.array(attend(mx.array(q), ring, at, D**-0.5))[0, :, 0]
    keys, values = dequantized(ring, group)[:, :, :seen]
    weights = np.exp(np.einsum("hd,hld->hl", q[0, :, 0], keys) * D**-0.5)
    want = np.einsum("hl,hld->hd", weights / weights.sum(axis=-1, keepdims=True), values)
    np.testing.assert_allclose(ours, want, atol=2e-5)
    # The ring holds the newest W steps, each within a step of its scale (mx.quantize moves the
    # bias so that zero is exact: the far end of a group may be clipped).
    slots = [step % W for step in range(max(0, steps - W), steps)]
    newest = spoken[max(0, steps - W) :, :, :, 0].transpose(1, 2, 0, 3)
    error = np.abs(dequantized(ring, group)[:, :, slots] - newest)
    scale = np.abs(np.repeat(np.array(ring[1])[:, :, slots], group, axis=-1))
    assert (error <= 1.01 * scale).all() and error.mean() < 0.3 * scale.mean()


def test_the_cache_takes_about_half_scales_counted() -> None:
    """Arrays of the 7B that are never computed: their sizes are enough."""
    config = parse_config(raw_preset("moshi-7b"))
    t = config.transformer
    full, half = (
        t.num_layers * sum(part.nbytes for part in new_ring(32, 3000, 128, mx.bfloat16, bits))
        for bits in (16, 8)
    )
    assert full == frame_cost.kv_bytes(config) == 1_572_864_000
    assert half == frame_cost.kv_bytes(config, kv_bits=bits_per_number(8, 128, mx.bfloat16))
    assert half / full == 8.5 / 16
    small = moshi_mlx.load_lm("nano", dtype="bfloat16")
    rings = [sum(p.nbytes for r in small.new_buffers(b).rings for p in r) for b in (16, 8)]
    assert rings[1] / rings[0] == (8 + 2 * 32 / 32) / 16
    assert small.new_buffers(8).nbytes() < 0.65 * small.new_buffers(16).nbytes()


def graph(generator: LmGenerator) -> str:
    submitted = generator.submit(np.zeros(generator.lm.config.user_q, np.int32))
    dot = io.StringIO()
    mx.export_to_dot(dot, *submitted.arrays(), *generator.buffers.arrays())
    generator.finish(submitted)
    return dot.getvalue()


def test_a_frame_dequantizes_nothing_traces_nothing_and_grows_nothing() -> None:
    """Warm-up traces all that a conversation will need."""
    lm = moshi_mlx.load_lm("nano", dtype="float32", kv_bits=8)
    context = lm.config.transformer.context or 0
    generator = lm.generator(seed=0)
    generator.warm_up()
    function = lm.functions.of(samplers(lm.config.sampling))
    traced = function.traces
    assert traced > 0
    codes, active = np.zeros(lm.config.user_q, np.int32), []
    shapes = [(a.shape, a.dtype) for a in generator.buffers.arrays()]
    for frame in range(2 * context + 3):
        generator.step(codes)
        if frame % context == context - 1:
            active.append(mx.get_active_memory())
    assert len(active) == 2 and max(active) <= 1.01 * min(active)
    assert [(a.shape, a.dtype) for a in generator.buffers.arrays()] == shapes
    assert "Dequantize" not in graph(generator)
    assert function.traces == traced


def test_conversations_in_16_and_8_bit_share_one_model() -> None:
    user = talk()[0, 9:, :12].T
    lm = nano()
    a, b, alone = lm.generator(seed=1), lm.generator(seed=1, kv_bits=8), lm.generator(seed=1)
    for codes in user:
        a.step(codes)
        b.step(codes)
        alone.step(codes)
    assert len(a.buffers.rings[0]) == 1 and len(b.buffers.rings[0]) == 3
    for ours, want in zip(a.buffers.arrays(), alone.buffers.arrays(), strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(want))


def shape(**changes: int) -> LmConfig:
    return parse_config(raw_preset("moshi-7b") | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nano().generator(kv_bits=4), "kv_bits is 4; it must be 16"),
        (lambda: moshi_mlx.load_lm("nano", kv_bits=0), "kv_bits is 0; it must be 16"),
        (lambda: moshi_mlx.load("nano", codec="mlx", kv_bits=7), "kv_bits is 7; it must be 16"),
        (
            lambda: moshi_mlx.load_lm(GOLDEN / "lm_moshi", kv_bits=8),
            "heads of a multiple of 32 numbers, and this model's have 16; leave it at 16",
        ),
        (
            lambda: Lm(shape(dim=320, num_heads=2)).new_buffers(8),
            "a context of 1024 or more needs heads of a multiple of 64 numbers, .* have 160",
        ),
    ],
)
def test_bad_bits_are_one_line(call, message: str) -> None:
    with pytest.raises(MoshiError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_option_and_the_preference_reach_the_model(tmp_path) -> None:
    parser = ArgumentParser()
    add_model_options(parser)
    preferences.add_config_option(parser)
    file = tmp_path / "chat.toml"
    file.write_text("kv_bits = 8\n")
    plain = ["--model", "nano", "--codec", "mlx"]
    for argv, bits in (
        (plain, 16),
        ([*plain, "--kv-bits", "8"], 8),
        ([*plain, "--config", str(file)], 8),
        ([*plain, "--config", str(file), "--kv-bits", "16"], 16),
    ):
        args = preferences.parse_with_preferences(parser, argv)
        assert load_from(args).lm.kv_bits == bits
    file.write_text("kv_bits = 4\n")
    with pytest.raises(MoshiError, match="kv_bits must be one of 16, 8, not 4"):
        preferences.parse_with_preferences(parser, [*plain, "--config", str(file)])
