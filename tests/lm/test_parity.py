"""The language model against Kyutai's PyTorch: logits, greedy tokens, and what a step sees."""

from functools import cache

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.lm.generator import Forced
from moshi_mlx.lm.model import Lm
from moshi_mlx.lm.sampling import Sampler
from tests.support.models.lm_goldens import GOLDEN, GREEDY, MODELS, conditions, golden, model

TOLERANCE = 1e-4


def assert_logits_equal(ours, theirs: np.ndarray) -> None:
    ours = np.array(ours)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.nanmax(np.abs(ours - theirs)) <= TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_teacher_forced_logits_equal_pytorchs_over_five_contexts(name: str) -> None:
    want = golden(name)
    text, audio = model(name).forward(want["tf.codes"], conditions(name, "voice"))
    assert_logits_equal(text, want["tf.text_logits"])
    if "tf.logits" in want:
        assert_logits_equal(audio, want["tf.logits"])
    else:
        assert audio is None


@pytest.mark.parametrize("name", MODELS)
def test_greedy_tokens_equal_pytorchs_far_beyond_the_context(name: str) -> None:
    want, lm = golden(name), model(name)
    generator = lm.generator(conditions=conditions(name, "gen.voice"), **GREEDY)
    steps = [generator.step(codes) for codes in want["user_codes"].T]
    assert [s.text_token for s in steps] == want["gen.text_tokens"].tolist()
    first = lm.config.max_delay
    assert all(s.codes is None for s in steps[:first])
    if lm.config.dep_q == 0:
        assert all(s.codes is None and s.sampled.size == 0 for s in steps)
        heads = np.stack([s.extra_heads for s in steps])
        np.testing.assert_allclose(heads, want["gen.extra_heads"], atol=TOLERANCE)
        return
    np.testing.assert_array_equal([s.sampled for s in steps], want["gen.audio_tokens"])
    np.testing.assert_array_equal([s.codes for s in steps[first:]], want["gen.out_tokens"][1:].T)


@pytest.mark.parametrize("changed", [0, 1, 7, 30])
def test_a_change_of_the_users_frame_n_shows_in_step_n(changed: int) -> None:
    """Not in n + 1, as in Kyutai's MLX port; frame 0 lies in the model's past: never shown."""
    lm, user = model("lm_moshi"), golden("lm_moshi")["user_codes"]
    # What comes after the changed frame's own step shows nothing more; frame 0 gets three contexts.
    user = user[:, : changed + 1 if changed else 30]
    # Several variants: a single changed code may leave the greedy tokens of its step as they are.
    first = []
    for variant in range(6):
        other = user.copy()
        other[:, changed] = (other[:, changed] + 1 + variant) % lm.config.card
        both = zip(unchanged(), sampled(lm, other), strict=False)
        same = [np.array_equal(a, b) for a, b in both]
        first.append(same.index(False) if False in same else None)
    if changed == 0:
        assert first == [None] * 6
    else:
        assert min(n for n in first if n is not None) == changed


@cache
def unchanged() -> list[np.ndarray]:
    return sampled(model("lm_moshi"), golden("lm_moshi")["user_codes"])


def sampled(lm: Lm, user: np.ndarray) -> list[np.ndarray]:
    """What a greedy conversation samples in each step of `user` [user_q, T]."""
    generator = lm.generator(**GREEDY)
    return [generator.step(codes).sampled for codes in user.T]


def spoken(lm: Lm, frames: int) -> tuple[list, np.ndarray]:
    """A greedy conversation of frames + 1 steps, and the codes [1, 1 + n_q, frames] it amounts to.

    Own frame t goes with the user's frame t = codes of call t + 1.
    """
    config, rng = lm.config, np.random.default_rng(0)
    user = rng.integers(0, config.card, (config.user_q, frames + 1))
    generator = lm.generator(**GREEDY)
    steps = [generator.step(codes) for codes in user.T]
    text = np.array([s.text_token for s in steps])
    own = np.full((config.dep_q, frames + 1), -1)
    for s, step in enumerate(steps):
        for k, code in enumerate(step.sampled):
            if s >= config.delays[1 + k]:
                own[k, s - config.delays[1 + k]] = code
    return steps, np.concatenate([text[None, :-1], own[:, :-1], user[:, 1:]])[None]


LONG_AFTER = [100, pytest.param(1000, marks=pytest.mark.long)]  # the ring holds 10 frames


@pytest.mark.parametrize("frames", [8, 40, *LONG_AFTER])
def test_steps_logits_equal_the_whole_sequences_long_after_the_ring_has_wrapped(
    frames: int, monkeypatch
) -> None:
    """Feed the forward pass what a greedy conversation said, before and far beyond 10 frames."""
    seen: list[mx.array] = []

    def greedy(self: Sampler, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        seen.append(logits)
        return mx.argmax(logits, axis=-1)

    monkeypatch.setattr(Sampler, "__call__", greedy)
    monkeypatch.setattr(
        "moshi_mlx.lm.compiled_step.can_compile", lambda: False
    )  # a trace would call it once
    lm = moshi_mlx.load_lm(GOLDEN / "lm_moshi", dtype="float32")
    config = lm.config
    steps, codes = spoken(lm, frames)
    logits = [np.array(x).reshape(-1) for x in seen]
    per_step = 1 + config.dep_q
    assert len(logits) == len(steps) * per_step
    text, audio = (np.array(x)[0] for x in lm.forward(codes))
    last = frames - config.max_delay
    stepped = np.stack(logits[0::per_step])
    np.testing.assert_allclose(stepped[:last], text[:last], atol=TOLERANCE)
    for k, delay in enumerate(config.delays[1:per_step]):
        stepped = np.stack(logits[1 + k :: per_step])
        # Frames before 1 are those that the delayed streams hadn't begun.
        np.testing.assert_allclose(
            stepped[1 + delay : last + delay], audio[k, 1:last], atol=TOLERANCE
        )


@pytest.mark.parametrize("frames", [40, *LONG_AFTER])
def test_steps_tokens_are_the_whole_sequences_best(frames: int) -> None:
    """The same with the step as it runs, compiled: every greedy token."""
    lm = model("lm_moshi")
    steps, codes = spoken(lm, frames)
    text_logits, audio_logits = lm.forward(codes)
    last = frames - lm.config.max_delay
    said = [s.text_token for s in steps]
    np.testing.assert_array_equal(np.argmax(np.array(text_logits)[0], -1)[:last], said[:last])
    ours = np.argmax(np.nan_to_num(np.array(audio_logits)[0]), -1)
    np.testing.assert_array_equal(ours[:, 1:last], codes[0, 1 : 1 + lm.config.dep_q, 1:last])


def test_logits_of_a_batch_equal_those_of_its_entries() -> None:
    lm, codes = model("lm_moshi"), golden("lm_moshi")["tf.codes"]
    both = np.concatenate([codes, np.roll(codes, 3, axis=2)])
    text, audio = (np.array(x) for x in lm.forward(both))
    for b in range(2):
        one_text, one_audio = lm.forward(both[b : b + 1])
        np.testing.assert_allclose(text[b], np.array(one_text)[0], atol=TOLERANCE)
        np.testing.assert_allclose(audio[b], np.array(one_audio)[0], atol=TOLERANCE)


def test_codes_follow_a_forced_text_as_in_pytorch() -> None:
    """Text to speech: each step is told its text, and the same step's codes already know."""
    want, lm = golden("lm_tts"), model("lm_tts")
    generator = lm.generator(conditions=conditions("lm_tts", "forced.voice"), **GREEDY)
    nobody = np.zeros(0, np.int32)
    steps = [generator.step(nobody, Forced(int(token))) for token in want["forced.text"]]
    assert [step.text_token for step in steps] == want["forced.text"].tolist()
    np.testing.assert_array_equal([step.sampled for step in steps], want["forced.codes"])
