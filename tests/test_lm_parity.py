"""The language model against Kyutai's PyTorch: logits, greedy tokens, and what a step sees."""

import numpy as np
import pytest

from tests.lm_goldens import GREEDY, MODELS, conditions, golden, model

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
    # Several variants: a single changed code may leave the greedy tokens of its step as they are.
    first = []
    for variant in range(6):
        other = user.copy()
        other[:, changed] = (other[:, changed] + 1 + variant) % lm.config.card
        a, b = lm.generator(**GREEDY), lm.generator(**GREEDY)
        same = [
            np.array_equal(a.step(x).sampled, b.step(y).sampled)
            for x, y in zip(user.T, other.T, strict=True)
        ]
        first.append(same.index(False) if False in same else None)
    if changed == 0:
        assert first == [None] * 6
    else:
        assert min(n for n in first if n is not None) == changed


@pytest.mark.parametrize("frames", [40, 1000])
def test_step_equals_whole_sequence_long_after_the_ring_has_wrapped(frames: int) -> None:
    """Feed the forward pass what a greedy conversation said: the same tokens must be its argmax."""
    lm = model("lm_moshi")
    config, rng = lm.config, np.random.default_rng(0)
    user = rng.integers(0, config.card, (config.user_q, frames + 1))
    generator = lm.generator(**GREEDY)
    steps = [generator.step(codes) for codes in user.T]
    # Own frame t with the user's frame t = codes of call t + 1 (formats.md, point 1).
    text = np.array([s.text_token for s in steps])
    own = np.full((config.dep_q, frames + 1), -1)
    for s, step in enumerate(steps):
        for k, code in enumerate(step.sampled):
            if s >= config.delays[1 + k]:
                own[k, s - config.delays[1 + k]] = code
    codes = np.concatenate([text[None, :-1], own[:, :-1], user[:, 1:]])[None]
    text_logits, audio_logits = lm.forward(codes)
    last = frames - config.max_delay
    np.testing.assert_array_equal(np.argmax(np.array(text_logits)[0], -1)[:last], text[:last])
    ours = np.argmax(np.nan_to_num(np.array(audio_logits)[0]), -1)
    np.testing.assert_array_equal(ours[:, 1:last], own[:, 1:last])


def test_logits_of_a_batch_equal_those_of_its_entries() -> None:
    lm, codes = model("lm_moshi"), golden("lm_moshi")["tf.codes"]
    both = np.concatenate([codes, np.roll(codes, 3, axis=2)])
    text, audio = (np.array(x) for x in lm.forward(both))
    for b in range(2):
        one_text, one_audio = lm.forward(both[b : b + 1])
        np.testing.assert_allclose(text[b], np.array(one_text)[0], atol=TOLERANCE)
        np.testing.assert_allclose(audio[b], np.array(one_audio)[0], atol=TOLERANCE)
