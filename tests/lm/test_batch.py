"""Conversations in one batch: each is what it would be alone, whoever joins and leaves."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import MoshiError
from moshi_mlx.generator import Forced, Step
from moshi_mlx.lm.model import Lm
from tests.support.models.lm_goldens import GREEDY, golden, model


@dataclass
class Talk:
    """One conversation of a batch: how it began, what it heard and said."""

    seed: int
    temperature: float
    heard: list[np.ndarray] = field(default_factory=list)
    said: list[Step] = field(default_factory=list)


def held(lm: Lm, B: int, steps: int, sampled: bool, kv_bits: int = 16) -> list[Talk]:
    """Every conversation of a batch whose members come and go at random frames."""
    rng, seed = np.random.default_rng(B), 100
    heats = [0.8 if sampled and i % 2 == 0 else 0.0 for i in range(B)]
    batch = lm.generator(
        batch=B, seed=list(range(B)), text_temperature=heats, audio_temperature=heats,
        kv_bits=kv_bits,
    )  # fmt: skip
    now: list[Talk | None] = [Talk(i, heats[i]) for i in range(B)]
    every = [talk for talk in now if talk is not None]
    for _ in range(steps):
        for i in range(B):
            if now[i] is not None and rng.random() < 0.03:
                batch.leave(i)
                now[i] = None
            elif now[i] is None and rng.random() < 0.4:
                seed += 1
                batch.join(i, seed=seed)
                now[i] = Talk(seed, heats[i])
                every.append(now[i])
        user = rng.integers(0, lm.config.card, (B, lm.config.user_q))
        for talk, codes, step in zip(now, user, batch.step(user), strict=True):
            assert (talk is None) == (step is None)
            if talk is not None and step is not None:
                talk.heard.append(codes)
                talk.said.append(step)
    return every


def assert_same(step: Step, want: Step) -> None:
    assert step.text_token == want.text_token
    np.testing.assert_array_equal(step.sampled, want.sampled)
    assert (step.codes is None) == (want.codes is None)
    if step.codes is not None and want.codes is not None:
        np.testing.assert_array_equal(step.codes, want.codes)


@pytest.mark.parametrize(("B", "sampled"), [(1, True), (3, False), (3, True)])
def test_each_conversation_is_the_same_alone(B: int, sampled: bool) -> None:
    """Past the ring's wrap; with a seed each, and greedy ones among sampled ones."""
    lm = model("lm_moshi")
    context = lm.config.transformer.context or 0
    every = held(lm, B, 3 * context + 10, sampled)
    assert len(every) > B
    assert B == 1 or max(len(talk.heard) for talk in every) > context
    for talk in every:
        heat = talk.temperature
        alone = lm.generator(seed=talk.seed, text_temperature=heat, audio_temperature=heat)
        for codes, step in zip(talk.heard, talk.said, strict=True):
            assert_same(step, alone.step(codes))


def test_in_8_bit_too() -> None:
    lm = moshi_mlx.load_lm("nano", dtype="float32")
    for talk in held(lm, 3, 40, sampled=False, kv_bits=8):
        alone = lm.generator(seed=talk.seed, kv_bits=8, **GREEDY)
        agree = [
            step.text_token == alone.step(codes).text_token
            for codes, step in zip(talk.heard, talk.said, strict=True)
        ]
        assert np.mean(agree) > 0.95  # a code may round the other way


@pytest.mark.parametrize("name", ["lm_stt", "lm_tts"])
def test_other_models_too(name: str) -> None:
    """Without a depth transformer and with extra heads; with conditions, attended and summed."""
    lm, rng = model(name), np.random.default_rng(1)
    given = None
    if name == "lm_tts":
        voice = golden(name)["voice"]
        given = [
            {"mood": "glad", "voice": voice},
            {"mood": "calm", "voice": (-voice, [1, 1, 0, 1])},
        ]
    options = {"conditions": given} if given else {}
    batch = lm.generator(batch=2, seed=5, **GREEDY, **options)
    alone = [
        lm.generator(seed=5, **GREEDY, conditions=given[i] if given else None) for i in range(2)
    ]
    for t in range(25):
        user = rng.integers(0, lm.config.card, (2, lm.config.user_q))
        forced = [Forced(t % 7), None] if name == "lm_tts" else None
        steps = batch.step(user, forced)
        for i, step in enumerate(steps):
            want = alone[i].step(user[i], forced[i] if forced else None)
            assert step is not None
            assert_same(step, want)
            if want.extra_heads is not None:
                np.testing.assert_allclose(step.extra_heads, want.extra_heads, atol=1e-5)


def test_an_empty_batch_waits() -> None:
    lm = model("lm_moshi")
    batch, user = lm.generator(batch=2, seed=1), np.zeros((2, lm.config.user_q), np.int32)
    batch.leave(0)
    batch.leave(1)
    assert batch.step(user) == [None, None] and batch.steps == [None, None]
    batch.join(1, seed=4)
    assert batch.step(user)[0] is None and batch.seeds == [None, 4] and batch.steps == [None, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.leave(5), "there is no slot 5; they are 0 to 1"),
        (lambda b: b.join(0), r"slot 0 holds a conversation; call leave\(0\) first"),
        (lambda b: (b.leave(1), b.leave(1)), "slot 1 is empty already"),
        (lambda b: b.step(np.zeros((3, 8), np.int32)), r"must have the shape \[2, 8\], not \[3, 8"),
        (lambda b: b.step(np.full((2, 8), 999)), "user codes must lie between"),
        (lambda b: b.step(np.zeros((2, 8), np.int32), [None]), "for 2 conversations"),
        (lambda b: (b.leave(0), b.join(0, audio_top_k=3)), "share top-k and top-p"),
        (lambda b: (b.leave(0), b.join(0, cfg_coef=2.0)), "all guided"),
        (lambda b: (b.leave(0), b.join(0, seed=-1)), "the seed must lie between"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(call, message: str) -> None:
    lm = model("lm_moshi")
    batch, twin = (lm.generator(batch=2, seed=[1, 2], **GREEDY) for _ in range(2))
    user = np.ones((2, lm.config.user_q), np.int32)
    for both in (batch, twin):
        both.step(user)
    with pytest.raises(MoshiError, match=message) as caught:
        call(batch)
    assert "\n" not in str(caught.value)
    for ours, want in zip(batch.step(user), twin.step(user), strict=True):
        if ours is not None and want is not None:
            assert_same(ours, want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch must be a whole number from 1 up"),
        ({"batch": 2, "seed": [1, 2, 3]}, "seed has 3 values for a batch of 2"),
        ({"batch": 2, "text_temperature": [0.5]}, "text_temperature has 1 values"),
        ({"batch": 2, "temperature": 1.0}, "unknown option 'temperature'"),
        ({"batch": 2, "cfg_coef": [1.0, 2.0]}, "all guided"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(MoshiError, match=message):
        model("lm_moshi").generator(**options)
