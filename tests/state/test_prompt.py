"""Prompts in one pass: what N steps would leave, and conversations that begin with them."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import MoshiError
from moshi_mlx.generator import Forced, LmGenerator
from moshi_mlx.lm.model import Lm
from tests.support.models.lm_goldens import GOLDEN, GREEDY, conditions, golden, guidance, model
from tests.support.models.loaded import nano
from tests.support.talks.lm_talks import fed, said, steps, user_codes

BASE = GOLDEN / "persona" / "base"
ARRAYS = golden("persona/prompt")


@pytest.fixture(scope="module")
def base() -> Lm:
    return moshi_mlx.load_lm(BASE, dtype="float32")


def in_time(generator: LmGenerator, N: int) -> list[np.ndarray]:
    """Keys and values of each layer, oldest first [2, heads, L, head_dim], after N positions."""
    window = generator.lm.config.transformer.context or 0
    order = [p % window for p in range(max(0, N - window), N)]
    return [np.array(ring[0])[..., order, :] for ring in generator.buffers.rings]


def golden_tokens(tag: str, N: int, lm: Lm) -> np.ndarray:
    """The input tokens of positions 0 to N, as the golden's forced steps made them."""
    user = ARRAYS[f"{tag}.user_codes"].T
    own = ARRAYS[f"{tag}.forced_own"].T
    tokens = np.full((N + 1, 1 + lm.config.n_q), -1)
    for stream, delay in enumerate(lm.config.delays):
        for p in range(delay + 1, N + 1):
            if stream == 0:
                tokens[p, 0] = ARRAYS[f"{tag}.forced_text"][p - 1]
            elif stream <= 8:
                tokens[p, stream] = own[p - 1, stream - 1]
            else:
                tokens[p, stream] = user[p - delay, stream - 9]
    return tokens


@pytest.mark.parametrize("tag", ["short", "long"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_prompt_is_pytorchs_forced_steps(base: Lm, tag: str, whole: bool) -> None:
    """With the tokens that the last of them forced in the prompt, or forced as it ends."""
    N, user = int(ARRAYS[f"{tag}.prompt_steps"][0]), ARRAYS[f"{tag}.user_codes"].T
    prompt = base.prompt(golden_tokens(tag, N, base)[: N + 1 if whole else N])
    generator = base.generator(seed=0, prompt=prompt, **GREEDY)
    assert generator.prompted and generator.steps == (N if whole else N - 1)
    if not whole:
        own = ARRAYS[f"{tag}.forced_own"][:, N - 1]
        generator.step(user[N - 1], Forced(int(ARRAYS[f"{tag}.forced_text"][N - 1]), own))
        state = generator.snapshot().past
        np.testing.assert_array_equal(state.line.line, ARRAYS[f"{tag}.state.line"])
        assert state.line.step == ARRAYS[f"{tag}.state.offset"][0]
        for layer, (keys, values) in enumerate(in_time(generator, N)):
            np.testing.assert_allclose(keys, ARRAYS[f"{tag}.state.keys.{layer}"], atol=1e-4)
            np.testing.assert_allclose(values, ARRAYS[f"{tag}.state.values.{layer}"], atol=1e-4)
    found = said(steps(generator, user[N:]))
    assert len(found) == 40 and not generator.prompted
    for part, name in ((found[:, :1], "text"), (found[:, 1:9], "audio"), (found[:, 9:], "out")):
        want = ARRAYS[f"{tag}.{name}_tokens"][N:].reshape(40, -1)[:, -part.shape[1] :]
        np.testing.assert_array_equal(part, want)


@pytest.mark.parametrize("tag", ["short", "long"])
def test_a_snapshot_after_pytorchs_forced_steps_goes_on_as_pytorch(base: Lm, tag, tmp_path) -> None:
    N, user = int(ARRAYS[f"{tag}.prompt_steps"][0]), ARRAYS[f"{tag}.user_codes"].T
    generator = base.generator(seed=0, **GREEDY)
    for t in range(N):
        own = ARRAYS[f"{tag}.forced_own"][:, t]
        generator.step(user[t], Forced(int(ARRAYS[f"{tag}.forced_text"][t]), own))
    generator.snapshot().save(tmp_path / "x")
    found = said(steps(base.resume(tmp_path / "x"), user[N:]))
    np.testing.assert_array_equal(found[:, 1:9], ARRAYS[f"{tag}.audio_tokens"][N:])
    np.testing.assert_array_equal(found[:, 0], ARRAYS[f"{tag}.text_tokens"][N:].ravel())


def options_of(name: str) -> dict:
    if name == "lm_tts":
        return {"conditions": conditions(name, "voice")}
    if name.startswith("cfg"):
        return {**guidance(name), "cfg_coef": 2.0, "masked_until": 3}
    return {}


@pytest.mark.parametrize(
    ("name", "N"),
    [
        *((name, 20) for name in ("lm_moshi", "lm_stt", "lm_tts", "cfg_hibiki", "cfg_tts")),
        *((name, N) for name in ("lm_moshi", "cfg_tts") for N in (1, 6)),
    ],
)
def test_one_pass_is_as_many_steps(name: str, N: int, tmp_path) -> None:
    """Models of every kind, with conditions and guidance, below and above a context of 10 or 12."""
    lm, options = model(name), options_of(name)
    context = lm.config.transformer.context or 0
    user = user_codes(lm, N + 14)  # once more around the ring
    stepped = lm.generator(seed=3, **options)
    tokens = fed(lm, steps(stepped, user[: N - 1]), user)
    if not lm.config.max_delay:
        tokens = tokens[:N]
    prompt = lm.prompt(tokens, **options)
    assert prompt.frames == N
    prompt.save(tmp_path / "prompt")
    for source in (prompt, lm.prompt_from(tmp_path / "prompt")):
        generator = lm.generator(seed=3, prompt=source, **options)
        assert (generator.steps, generator.prompt_frames) == (N - 1, N)
        for mine, want in zip(in_time(generator, N - 1), in_time(stepped, N - 1), strict=True):
            oldest = int(context < N)  # its slot holds the prompt's last position by now
            np.testing.assert_allclose(mine[..., oldest:, :], want[..., oldest:, :], atol=1e-4)
        if source is not prompt:
            break
        first = generator.step(None if lm.config.user_q else np.zeros(0, int))
        want = lm.generator(seed=3, **options)
        expected = steps(want, user[:N])[-1]
        assert first.text_token == expected.text_token
        np.testing.assert_array_equal(first.sampled, expected.sampled)
    found = steps(generator, user[N - 1 :])
    np.testing.assert_array_equal(said(found), said(steps(stepped, user[N - 1 :])))


def test_a_prompt_in_8_bit_holds_the_codes_that_steps_leave() -> None:
    lm = nano().lm
    user = user_codes(lm, 30)
    stepped = lm.generator(seed=3, kv_bits=8)
    prompt = lm.prompt(fed(lm, steps(stepped, user[:19]), user), kv_bits=8)
    generator = lm.generator(seed=3, prompt=prompt, kv_bits=8)
    for mine, want in zip(generator.buffers.rings, stepped.buffers.rings, strict=True):
        codes = [np.array(part[0][..., :19, :].view(mx.uint8)).astype(int) for part in (mine, want)]
        assert np.abs(codes[0] - codes[1]).max() <= 1 and np.mean(codes[0] == codes[1]) > 0.98
    np.testing.assert_array_equal(
        said(steps(generator, user[19:])), said(steps(stepped, user[19:]))
    )
    with pytest.raises(MoshiError, match="made with kv_bits=8; give the conversation the same"):
        lm.generator(prompt=prompt)


@pytest.mark.parametrize("name", ["lm_moshi", "cfg_hibiki"])
def test_conversations_of_a_batch_begin_with_prompts(name: str) -> None:
    """One from the start, one that joins, among others without."""
    lm, options = model(name), options_of(name)
    user = user_codes(lm, 60)
    talks = [steps(lm.generator(seed=8, **options), user[:n]) for n in (5, 17)]
    prompts = [lm.prompt(fed(lm, talk, user), **options) for talk in talks]
    alone = [lm.generator(seed=s, prompt=p, **options) for s, p in ((1, prompts[0]), (2, None))]
    batch = lm.generator(batch=3, seed=[1, 2, 3], prompt=[prompts[0], None, None], **options)
    for t in range(28):
        if t == 14:
            batch.leave(2)
            batch.join(2, seed=4, prompt=prompts[1])
            alone.append(lm.generator(seed=4, prompt=prompts[1], **options))
        both = [user[t], user[t][::-1], user[t] // 2]
        found = batch.step(np.stack(both))
        for i, one in enumerate(alone):
            want = one.step(both[i])
            step = found[i]
            assert step is not None and step.text_token == want.text_token
            np.testing.assert_array_equal(step.sampled, want.sampled)


def test_a_conversation_begun_with_a_prompt_can_be_kept_at_any_frame(tmp_path) -> None:
    """Also before its first step, and where the prompt still gives tokens."""
    lm = model("cfg_hibiki")
    user = user_codes(lm, 30)
    prompt = lm.prompt(fed(lm, steps(lm.generator(seed=8), user[:7]), user))
    want = said(steps(lm.generator(seed=1, prompt=prompt), user[7:]))
    for before in (0, 1, 2, 5):
        generator = lm.generator(seed=1, prompt=prompt)
        steps(generator, user[7 : 7 + before])
        generator.snapshot().save(tmp_path / "x")
        resumed = lm.resume(tmp_path / "x")
        assert resumed.prompt_frames == 8 and resumed.prompted == (before == 0)
        np.testing.assert_array_equal(said(steps(resumed, user[7 + before :])), want[before:])


# ---- a prompt that stays


def windowed(lm: Lm, tokens: np.ndarray, kept: int) -> np.ndarray:
    """Greedy text tokens of every position by one pass whose mask says what each may see.

    The oracle: the first `kept` positions, and of the others the last context - kept.
    """
    T, window = len(tokens), (lm.config.transformer.context or 0) - kept
    x = lm.embed(mx.array(tokens.T[None]), lm.sources(None))
    query, key = np.arange(T)[:, None], np.arange(T)[None]
    seen = (key <= query) & ((key < kept) | (key > query - window))
    seen |= (key <= query) & (query < window + kept)
    for block in lm.transformer.layers:
        attn, h = block.self_attn, block.norm1(x)
        H, D = attn.config.num_heads, attn.config.head_dim
        q, k, v = mx.split(attn.in_proj(h).reshape(1, T, 3 * H, D).swapaxes(1, 2), 3, axis=1)
        out = mx.fast.scaled_dot_product_attention(
            attn.rotate(q, 0), attn.rotate(k, 0), v, scale=attn.scale, mask=mx.array(seen.tolist())
        )
        x = x + attn.out_proj(out.swapaxes(1, 2).reshape(1, T, -1))
        x = block.mlp(x)
    return np.array(lm.text_linear(lm.out_norm(x))[0])


@pytest.mark.parametrize("kept", [4, 13])
def test_a_kept_prompt_is_seen_for_ever_and_the_rest_of_the_window_is_the_latest(
    base, kept
) -> None:
    """Against the oracle, three contexts on: logits as of the tokens that were fed."""
    user, context = user_codes(base, 80), base.config.transformer.context or 0
    prompt = base.prompt(fed(base, steps(base.generator(seed=8), user[: kept - 1]), user))
    assert prompt.frames == kept < context
    seen: list[np.ndarray] = []

    class Looks:
        greedy = True

        def __call__(self, logits, temperature, noise):
            seen.append(np.array(logits)[0])
            return mx.argmax(logits, axis=-1)

    class Plain(Looks):
        def __call__(self, logits, temperature, noise):
            return mx.argmax(logits, axis=-1)

    made = base.generator(prompt=prompt, keep_prompt=True, draws=(Looks(), Plain()), compiled=False)
    talk = steps(made, user[kept - 1 :])
    before = steps(base.generator(seed=8), user[: kept - 1])
    tokens = fed(base, [*before, *talk], user)[: len(user)]
    tokens = np.where(tokens == -2, -1, tokens)
    want = windowed(base, tokens, kept)[kept - 1 :]
    np.testing.assert_allclose(np.stack(seen), want, atol=2e-4)
    moving = windowed(base, tokens, 0)[kept - 1 :]
    assert np.abs(np.stack(seen) - moving)[: context - kept].max() < 2e-4  # all is seen anyway
    assert np.abs(np.stack(seen) - moving)[2 * context :].max() > 0.1


def test_a_kept_prompt_goes_on_after_a_snapshot_and_in_a_batch(base, tmp_path) -> None:
    user = user_codes(base, 60)
    prompt = base.prompt(fed(base, steps(base.generator(seed=8), user[:6]), user))
    options = {"prompt": prompt, "keep_prompt": True, **GREEDY}
    want = said(steps(base.generator(seed=0, **options), user))
    assert not np.array_equal(want, said(steps(base.generator(prompt=prompt, **GREEDY), user)))
    generator = base.generator(seed=0, **options)
    steps(generator, user[:47])
    generator.snapshot().save(tmp_path / "x")
    np.testing.assert_array_equal(said(steps(base.resume(tmp_path / "x"), user[47:])), want[47:])
    batch = base.generator(
        batch=2, seed=0, prompt=[prompt, None], keep_prompt=[True, False], **GREEDY
    )
    found = [batch.step(np.stack([codes, codes]))[0] for codes in user]
    np.testing.assert_array_equal(said([s for s in found if s is not None]), want)


# ---- what is refused


def good(lm: Lm, N: int = 6) -> np.ndarray:
    return np.ones((N, 1 + lm.config.n_q), int)


def with_hole(tokens: np.ndarray, at: int, value: int = -2) -> np.ndarray:
    tokens = tokens.copy()
    tokens[at, 9] = value
    return tokens


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (lambda t: t[0], r"must have the shape \[positions, 17\], not \[17\]"),
        (lambda t: t[:, :9], r"not \[6, 9\]"),
        (lambda t: t[:0], "at least one position"),
        (lambda t: t * 1.5, "must be integers"),
        (lambda t: t * 99, "must lie between -1 and 48, its codes 40"),
        (lambda t: t - 4, "must lie between -1 and 48"),
        (lambda t: with_hole(t, 3), "position 3 of the prompt has a token that isn't known"),
        (lambda t: with_hole(t, 5) * np.where(np.arange(17) == 2, 40, 1), "must be below 40"),
        (lambda t: [["a"] * 17], "must be integers"),
    ],
)
def test_tokens_that_are_no_prompt_are_one_line(tokens, message) -> None:
    lm = model("lm_moshi")
    with pytest.raises(MoshiError, match=message) as caught:
        lm.prompt(tokens(good(lm)))
    assert "\n" not in str(caught.value)


def test_options_that_do_not_fit_the_prompt_are_one_line(tmp_path) -> None:
    lm = model("cfg_hibiki")
    words = {"description": "very_good"}
    no_prompt: dict[str, Any] = {"prompt": "x"}
    warm: dict[str, Any] = {"text_temperature": 1.0}
    plain, guided = lm.prompt(good(lm)), lm.prompt(good(lm), conditions=words, cfg_coef=2.0)
    refused = [
        (lambda: lm.generator(prompt=plain, conditions=words), "made with other conditions"),
        (lambda: lm.generator(prompt=plain, cfg_coef=2.0), "made with other guidance"),
        (lambda: lm.generator(prompt=guided, cfg_coef=1.0), "made with other guidance"),
        (lambda: lm.generator(prompt=guided, masked_until=3), "made with other guidance"),
        (lambda: lm.generator(**no_prompt), "a prompt is made by lm.prompt"),
        (lambda: lm.generator(keep_prompt=True), "begins with a prompt"),
        (lambda: lm.generator(prompt=lm.prompt(good(lm, 12)), keep_prompt=True), "can't be kept"),
        (lambda: lm.prompt(good(lm), **warm), "a prompt has no option"),
        (lambda: lm.prompt(good(lm), kv_bits=4), "kv_bits is 4"),
        (lambda: lm.prompt(good(lm), conditions={"mood": "x"}), "no condition 'mood'"),
        (lambda: model("lm_moshi").generator(prompt=plain), "made with another model"),
    ]
    for call, message in refused:
        with pytest.raises(MoshiError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    lm.generator(prompt=guided, conditions=words, cfg_coef=3.0)  # the strength may be another
    generator = lm.generator(seed=0)
    generator.step(np.zeros(8, int))
    generator.snapshot().save(tmp_path / "talk")
    guided.save(tmp_path / "prompt")
    assert lm.generator(prompt=lm.prompt_from(tmp_path / "prompt")).prompt_frames == 6
    with pytest.raises(MoshiError, match=r"give it to lm\.resume"):
        lm.prompt_from(tmp_path / "talk")
    with pytest.raises(MoshiError, match="give it to prompt_from"):
        lm.resume(tmp_path / "prompt")


def test_user_codes_may_be_left_out_only_where_a_prompt_gives_them() -> None:
    lm = model("lm_moshi")
    generator = lm.generator(seed=0, prompt=lm.prompt(good(lm)))
    generator.step(None)
    with pytest.raises(MoshiError, match="user codes must have the shape"):
        generator.step(None)
