"""Classifier-free guidance: a second row without the conditions, as in PyTorch's LMGen."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.generator import Forced
from tests.support.models.lm_goldens import GREEDY, golden, guidance, model


class Looks:
    """A greedy sampler that keeps the logits [V] that it is given."""

    greedy = True

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        self.seen.append(np.array(logits)[0])
        return mx.argmax(logits, axis=-1)


# Each way at one strength; the other strength in the long run.
RUNS = [
    ("cfg_hibiki", "gen_cfg3"),
    ("cfg_tts", "gen_cfg2"),
    ("cfg_tts", "gen_cfg2_notext"),
    pytest.param("cfg_hibiki", "gen_cfg2", marks=pytest.mark.long),
    pytest.param("cfg_tts", "gen_cfg3", marks=pytest.mark.long),
]


def strength(run: str) -> dict:
    return {"cfg_coef": float(run[7]), "cfg_is_no_text": run.endswith("notext")}


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_logits_and_tokens_are_pytorchs(name: str, run: str) -> None:
    want, text, audio = golden(name), Looks(), Looks()
    chosen = {**guidance(name), **strength(run)}
    looked = model(name).generator(draws=(text, audio), compiled=False, **chosen)
    plain = model(name).generator(**GREEDY, **chosen)
    steps, forced = want["user_codes"].shape[2], want.get("forced_text")
    for t in range(steps):
        user = want["user_codes"][0, :, t]
        token = None if forced is None else Forced(int(forced[t]))
        ours, compiled = looked.step(user, token), plain.step(user, token)
        np.testing.assert_array_equal(ours.sampled, want[f"{run}.audio_tokens"][0, t])
        np.testing.assert_array_equal(compiled.sampled, ours.sampled)
        assert compiled.text_token == ours.text_token
        if forced is None:
            assert ours.text_token == want[f"{run}.text_tokens"][0, t]
    np.testing.assert_allclose(np.stack(text.seen), want[f"{run}.text_logits"][0], atol=1e-4)
    given, without = want[f"{run}.audio_logits"]
    guided = without + strength(run)["cfg_coef"] * (given - without)
    mine = np.stack(audio.seen).reshape(steps, *guided.shape[1:])
    weights = 2 * strength(run)["cfg_coef"] - 1  # of both rows' errors of 1e-4
    np.testing.assert_allclose(mine[: len(guided)], guided, rtol=0, atol=1e-4 * weights)


@pytest.mark.parametrize("name", ["cfg_hibiki", "cfg_tts"])
def test_guided_conversations_of_a_batch_are_those_alone(name: str) -> None:
    """Each with a strength of its own, and one that joins later."""
    lm, chosen = model(name), guidance(name)
    chosen["cfg_is_no_text"] = name == "cfg_tts"
    rng, coefs = np.random.default_rng(0), [2.0, 3.0, 1.5]
    batch = lm.generator(batch=3, seed=0, cfg_coef=coefs, **GREEDY, **chosen)
    alone = [lm.generator(seed=0, cfg_coef=coef, **GREEDY, **chosen) for coef in coefs]
    for t in range(30):
        if t == 12:
            batch.leave(1)
        if t == 15:
            batch.join(1, seed=3, cfg_coef=2.5)
            alone[1] = lm.generator(seed=3, cfg_coef=2.5, **GREEDY, **chosen)
        user = rng.integers(0, lm.config.card, (3, lm.config.user_q))
        for i, step in enumerate(batch.step(user)):
            if step is None:
                assert i == 1 and 12 <= t < 15
                continue
            want = alone[i].step(user[i])
            assert step.text_token == want.text_token
            np.testing.assert_array_equal(step.sampled, want.sampled)


def test_the_other_row_is_masked_until_a_step_behind_each_delay() -> None:
    lm = model("cfg_hibiki")
    made = lm.generator(seed=0, cfg_coef=2.0, masked_until=4, cfg_is_no_text=True, **GREEDY)
    talk, delays = made._talk, np.array(lm.config.delays)
    user = np.arange(lm.config.user_q)
    for step in range(12):
        given, other = talk.inputs(user)
        begun = step > delays
        hidden = begun & (step <= delays + 4)
        hidden[0] = begun[0]
        np.testing.assert_array_equal(other, np.where(hidden, -1, given))
        made.step(user)


def test_a_config_may_ask_for_guidance() -> None:
    raw = raw_preset("moshi-7b") | {"lm_gen_config": {"cfg_coef": 3, "cfg_is_no_text": True}}
    config = parse_config(raw)
    assert (config.cfg_coef, config.cfg_is_no_text) == (3.0, True)
    assert parse_config(raw_preset("moshi-7b")).cfg_coef == 1.0


def test_the_configs_guidance_holds_where_nothing_else_is_said() -> None:
    lm = model("cfg_hibiki")
    chosen, user = guidance("cfg_hibiki"), np.zeros(lm.config.user_q, np.int32)
    plain_config = lm.config
    try:
        lm.config = dataclasses.replace(plain_config, cfg_coef=3.0)
        by_config = lm.generator(seed=0, **GREEDY, **chosen)
    finally:
        lm.config = plain_config
    by_option = lm.generator(seed=0, cfg_coef=3.0, **GREEDY, **chosen)
    for _ in range(5):
        np.testing.assert_array_equal(by_config.step(user).sampled, by_option.step(user).sampled)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cfg_coef": float("nan")}, MoshiError, "cfg_coef must be a number"),
        ({"cfg_coef": "3"}, MoshiError, "cfg_coef must be a number"),
        ({"negatives": {"description": "bad"}}, MoshiError, "give cfg_coef too"),
        ({"cfg_coef": 2.0, "negatives": {"mood": "bad"}}, ConfigError, "no condition 'mood'"),
        ({"cfg_coef": 2.0, "masked_until": -1}, MoshiError, "masked_until must be"),
    ],
)
def test_bad_options_are_one_line(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        model("cfg_hibiki").generator(**options)
    assert "\n" not in str(caught.value)
