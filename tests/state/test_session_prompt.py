"""Talks with sound that begin with a prompt, and the folder in which prompts are kept."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.errors import MoshiError
from moshi_mlx.lm.state.past import LmPrompt
from moshi_mlx.lm.state.prompt_cache import ENDING, PromptCache, prompts_folder
from moshi_mlx.moshi import Moshi
from moshi_mlx.session.codec_beside import CodecBeside
from moshi_mlx.session.path import MakePath, path_for
from tests.support.models.lm_goldens import GREEDY
from tests.support.models.personaplex import ARRAYS, CONSTANTS, FOLDER, small_personaplex
from tests.support.models.tiny_moshi import tiny_moshi
from tests.support.talks.lm_talks import fed, steps, user_codes

FRAME = 1920


@pytest.fixture(scope="module")
def persona(tmp_path_factory) -> Moshi:
    folder = tmp_path_factory.mktemp("personaplex")
    return tiny_moshi(folder, small_personaplex(folder))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Moshi:
    return tiny_moshi(tmp_path_factory.mktemp("moshi"))


@pytest.fixture
def cache(tmp_path) -> PromptCache:
    return PromptCache(tmp_path / "prompts")


def sound(frames: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (frames, FRAME)).astype(np.float32)


def beside(generator, stream, user_q: int) -> CodecBeside:
    return CodecBeside(generator, stream, user_q)


def expected(moshi: Moshi, prompt: LmPrompt, pcm: np.ndarray) -> Iterator[tuple]:
    """By hand: the prompt is ended, then the user's first sample is the encoder's first."""
    generator, stream = moshi.lm.generator(seed=1, prompt=prompt, **GREEDY), moshi.codec.stream()
    text = moshi.tokenizer.stream((3, 0))
    silence = np.resize(moshi.silence(), moshi.config.user_q)
    first = text.push(generator.step(silence).text_token)
    for frame in pcm:
        step = generator.step(stream.encode(frame)[: moshi.config.user_q])
        assert step.codes is not None
        yield first + text.push(step.text_token), step, stream.decode(step.codes)
        first = ""


@pytest.mark.parametrize("make_path", [path_for, beside])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_a_talk_begins_where_the_prompt_ends(
    persona: Moshi, cache, make_path: MakePath, warm: bool, early: bool
) -> None:
    from moshi_mlx.moshi import Session

    prompt = persona.prompt("", ARRAYS["voice_codes"], cache=cache, **CONSTANTS)
    session = Session(persona, 1, make_path, mark=False, prompt=prompt, **GREEDY)
    if warm:
        session.warm_up()
    assert (session.frames, session.prompt_frames) == (0, prompt.frames)
    pcm = sound(12)
    for frame, (text, step, said) in zip(pcm, expected(persona, prompt, pcm), strict=True):
        if early:
            reply = session.step_early(frame)
            heard = reply.sound.result()
        else:
            reply = session.step(frame)
            heard = reply.pcm
        assert (reply.text, reply.text_token) == (text, step.text_token)
        np.testing.assert_array_equal(reply.codes, step.codes)
        assert heard is not None
        np.testing.assert_allclose(heard, said, atol=1e-5)
    assert session.frames == 12
    session.close()


def test_a_prompt_of_tokens_begins_any_models_talk(plain: Moshi, cache) -> None:
    """Its last frame's acoustic codes are open: the user's silence."""
    lm, user = plain.lm, user_codes(plain.lm, 20)
    tokens = fed(lm, steps(lm.generator(seed=3), user[:6]), user)[:7]
    prompt = plain.prompt(tokens=tokens, cache=cache)
    assert lm.generator(prompt=prompt).hears
    pcm = sound(8)
    with plain.session(seed=1, mark=False, prompt=prompt, **GREEDY) as session:
        for frame, (text, step, _) in zip(pcm, expected(plain, prompt, pcm), strict=True):
            reply = session.step(frame)
            assert (reply.text, reply.text_token) == (text, step.text_token)


def test_a_persona_is_refused_where_it_was_not_trained(plain: Moshi, persona: Moshi, cache) -> None:
    one_of_both = lambda: persona.prompt("a", tokens=np.zeros((3, 17), int), cache=cache)  # noqa: E731
    for call, message in [
        (lambda: plain.prompt("You are a pirate.", cache=cache), "takes no persona"),
        (lambda: plain.prompt(voice=FOLDER / "voice.pt", cache=cache), "takes no persona"),
        (one_of_both, "give one of both"),
        (lambda: persona.prompt("a", adapter="pirate", cache=cache), "no adapter pirate"),
        (lambda: persona.prompt("a", cache=cache), "silence must be codes below 50"),
    ]:
        with pytest.raises(MoshiError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not cache.folder.exists()


# ---- the cache


def test_a_prompt_is_taken_from_the_cache_and_from_nowhere_else(persona: Moshi, cache) -> None:
    """Seen by putting another prompt into its file."""
    first = persona.prompt("", cache=cache, **CONSTANTS)
    (path,) = cache.folder.iterdir()
    other = persona.prompt("", ARRAYS["voice_codes"], cache=False, **CONSTANTS)
    other.save(path)
    assert persona.prompt("", cache=cache, **CONSTANTS).frames == other.frames != first.frames
    for voice in (FOLDER / "voice.pt", ARRAYS["voice_codes"]):
        assert persona.prompt("", voice, cache=cache, **CONSTANTS).frames == other.frames
    assert len(list(cache.folder.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_file_is_made_anew(persona: Moshi, cache, damage) -> None:
    made = persona.prompt("", cache=cache, **CONSTANTS)
    (path,) = cache.folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] if damage is None else damage)
    assert cache.entries()[0].frames is None
    assert persona.prompt("", cache=cache, **CONSTANTS).frames == made.frames
    assert path.read_bytes() == whole


def test_it_is_bounded_and_the_longest_unused_goes_first(persona: Moshi, tmp_path) -> None:
    lm = persona.lm
    prompts = [lm.persona_prompt([i], **CONSTANTS) for i in range(4)]
    prompts[0].save(tmp_path / "one")
    cache = PromptCache(tmp_path / "p", limit_bytes=3 * (tmp_path / "one").stat().st_size + 100)
    for i, prompt in enumerate(prompts[:3]):
        cache.put(str(i), prompt)
        os.utime(cache.folder / f"{i}{ENDING}", (1000 + i, 1000 + i))
    assert cache.get("0", lm) is not None  # now it was used
    cache.put("3", prompts[3])
    assert sorted(path.name[0] for path in cache.folder.iterdir()) == ["0", "2", "3"]
    PromptCache(cache.folder, limit_bytes=10).put("4", prompts[0])  # larger than all
    assert len(cache.entries()) == 3 and cache.get("4", lm) is None


def test_what_is_there_is_told_and_cleared(persona: Moshi, cache, monkeypatch, tmp_path) -> None:
    assert cache.entries() == [] and cache.clear() == 0
    persona.prompt("", FOLDER / "voice.pt", cache=cache, **CONSTANTS)
    (entry,) = cache.entries()
    assert (entry.title, entry.frames) == ("voice: ", 24)
    assert entry.num_bytes == entry.path.stat().st_size and entry.used > 1e9
    (cache.folder / "notes.txt").write_text("mine")
    assert cache.clear() == 1 and cache.entries() == []
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert PromptCache().folder == prompts_folder() == tmp_path / "moshi-local" / "prompts"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert prompts_folder() == Path.home() / ".cache" / "moshi-local" / "prompts"


def test_a_cache_that_cannot_be_written_to_is_done_without(persona: Moshi, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = PromptCache(tmp_path / "file")
    assert persona.prompt("", cache=cache, **CONSTANTS).frames == 12
    assert cache.entries() == []
