"""Speech as it comes: flushes, a model that falls silent, prompts, turns, hours."""

import gc
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import MoshiError
from moshi_mlx.stt import Prompt, TranscriptStream
from moshi_mlx.stt.turns import EndOfTurn
from moshi_mlx.stt.watch import PATIENCE_FRAMES, REPLAY_FRAMES, SpeechWatch
from tests.support.fakes.falls_silent import FallsSilent
from tests.support.fakes.heard_words import DELAY_S, WORD, heard_words
from tests.support.models import lm_goldens

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_stt"
RUN = json.loads((GOLDEN / "golden.json").read_text())
ARRAYS = lm_goldens.golden("dsm_stt")
SOUND = ARRAYS["pcm_int16"].astype(np.float32) / 32768
FRAME, PAD, EPAD = 1920, 3, 0
WOBBLE_BYTES = 50_000  # what a step holds while it runs; an array a frame would be far more


@pytest.fixture(scope="module")
def stt():
    return moshi_mlx.load_stt(GOLDEN, dtype="float32")


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return heard_words(tmp_path_factory.mktemp("heard") / "model")


def pieces(sound, rng, longest=6000):
    at = 0
    while at < len(sound):
        size = int(rng.integers(0, longest))
        yield sound[at : at + size]
        at += size


def check_flushes(stt, seconds, flushes):
    """A live stream with flushes at random places, and the file."""
    rng = np.random.default_rng(1)
    sound = (rng.standard_normal(seconds * 24_000) * rng.uniform(0, 0.2)).astype(np.float32)
    parts = list(pieces(sound, rng))
    at = set(rng.choice(len(parts), flushes, replace=False).tolist())
    stream, words, given = stt.stream(), [], 0
    for i, part in enumerate(parts):
        words += stream.push(part)
        given += len(stream.flush()) if i in at else 0
    words += stream.finish()
    whole = stt.transcribe(sound)
    assert tuple(words) == whole.words and given >= flushes / 2
    assert np.array_equal(stream.transcript().tokens, whole.tokens)
    assert np.array_equal(stream.transcript().pauses, whole.pauses)


def test_flushes_change_nothing(stt):
    check_flushes(stt, seconds=6, flushes=12)


@pytest.mark.long
def test_twenty_flushes_in_five_minutes_change_nothing(stt):
    check_flushes(stt, seconds=300, flushes=20)


def test_a_flush_gives_what_a_file_that_ends_there_has(stt):
    stream, cut = stt.stream(), 20 * FRAME + 700
    early = stream.push(SOUND[:cut])
    said = stream.flush()
    assert (*early, *said) == stt.transcribe(SOUND[:cut]).words and said
    assert stream.flush() == said
    assert stream.heard_s == 20 * 0.08


def test_a_fork_is_a_stream_of_its_own(stt):
    stream = stt.stream()
    stream.push(SOUND[:30_000])
    twin = stream.fork()
    other = np.zeros(20_000, np.float32)
    twin.push(other)
    stream.push(SOUND[30_000:])
    stream.finish()
    twin.finish()
    assert stream.transcript().words == stt.transcribe(SOUND).words
    there = stt.transcribe(np.concatenate([SOUND[:30_000], other]))
    assert twin.transcript().words == there.words


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """As `heard`, with speech nearly all the time."""
    return heard_words(tmp_path_factory.mktemp("chatty") / "model", loud=18)


def test_a_model_that_falls_silent_is_begun_anew_and_no_word_is_lost(chatty):
    """It hears the last seconds again: words and times are those of a model that never does."""
    stt, sound = chatty.stt, chatty.sound(12)
    whole = stt.transcribe(sound)
    want = whole.words
    assert len(want) == 6
    model, parts = FallsSilent(stt.lm, 90), list(pieces(sound, np.random.default_rng(0)))
    stream = TranscriptStream(model, stt.mimi, stt.hearing(None, SpeechWatch(30)))
    given = [word for part in parts for word in stream.push(part)]
    given += stream.finish()
    assert tuple(given) == want
    assert len(stream.transcript().tokens) == len(whole.tokens)
    left_alone = TranscriptStream(model, stt.mimi, stt.hearing(None, None))
    left_alone.push(sound)
    assert len(left_alone.transcript().words) < 4


def test_the_watch_waits_for_speech_and_longer_where_it_did_not_help():
    watch = SpeechWatch()
    for _ in range(20 * PATIENCE_FRAMES):
        watch.take(speech=False, text=False)
    assert not watch.due
    for expected in (1, 2, 4, 8, 16, 16):
        for i in range(expected * PATIENCE_FRAMES):
            assert not watch.due, i
            watch.take(speech=True, text=False)
        assert watch.due
        watch.begun_anew()
    watch.take(speech=True, text=True)
    for _ in range(PATIENCE_FRAMES):
        watch.take(speech=True, text=False)
    assert watch.due and PATIENCE_FRAMES < REPLAY_FRAMES


def test_turns_end_where_kyutais_script_says_so():
    tokens, heads = ARRAYS["script.text_tokens"], ARRAYS["script.extra_heads"][..., 0]
    turns = EndOfTurn()
    ends = [i for i, t in enumerate(tokens) if turns.push(t > PAD, heads[i])]
    assert ends == RUN["script"]["end_of_turn_frames"]


def test_turns_end_after_two_seconds_where_there_are_no_heads():
    turns = EndOfTurn()
    spoken = [False] * 40 + [True, False, True] + [False] * 60 + [True] + [False] * 30
    assert [i for i, text in enumerate(spoken) if turns.push(text, None)] == [67, 128]


def test_a_stream_says_once_that_a_turn_has_ended(stt):
    stream, ends = stt.stream(), 0
    for part in np.split(SOUND[: 47 * FRAME], 47):
        stream.push(part)
        ends += stream.turn_ended
    whole = stt.transcribe(SOUND[: 47 * FRAME])
    turns = EndOfTurn()
    heard = zip(whole.tokens[: 13 + 47], whole.pauses, strict=False)
    assert ends == sum(turns.push(t > PAD, p) for t, p in heard) > 0


def by_hand(stt, sound, prompt):
    """Kyutai's hook in Python, on a conversation of its own: a mask before each choice."""
    mimi, silence = stt.mimi, np.zeros(10 * FRAME, np.float32)
    spoken = np.pad(prompt.pcm, (0, -len(prompt.pcm) % FRAME))
    prefix, tail = np.zeros(13 * FRAME, np.float32), np.zeros(7 * FRAME, np.float32)
    heard = np.pad(sound, (0, -len(sound) % FRAME))
    codes = mimi.encode(np.concatenate([prefix, spoken, silence, heard, tail]))
    waiting = stt.tokenizer.encode(prompt.text)
    skipped = len(spoken) // FRAME + 10
    cut, tokens, at = skipped + 13 + int(DELAY_S * 12.5), [], [0]

    def draw(logits, temperature, noise):
        row = np.array(logits)
        if waiting and at[0] < cut:
            allowed = np.zeros_like(row, bool)
            allowed[:, [PAD, EPAD, waiting[0]]] = True
            row = np.where(allowed, row, -np.inf)
        return mx.array(row.argmax(-1).astype(np.uint32))

    lm = stt.lm.generator(draws=(Drawn(draw), Drawn(draw)), compiled=False)
    for i, frame in enumerate([codes[:, 0], *codes.T]):
        at[0] = max(0, i - 1)
        token = lm.step(frame).text_token
        if waiting and token == waiting[0]:
            waiting.pop(0)
        tokens += [token] if i else []
    assert not waiting
    return [PAD] * (cut - skipped) + tokens[cut:]


class Drawn:
    """A sampler that looks at the values."""

    greedy = True

    def __init__(self, draw) -> None:
        self._draw = draw

    def __call__(self, logits, temperature, noise):
        return self._draw(logits, temperature, noise)


def test_a_prompt_is_heard_first_and_is_no_part_of_the_transcript(stt):
    prompt = Prompt("a", np.random.default_rng(3).standard_normal(50_000).astype(np.float32) / 9)
    made = stt.transcribe(SOUND, prompt=prompt)
    assert made.tokens.tolist() == by_hand(stt, SOUND, prompt)
    plain = stt.transcribe(SOUND)
    assert len(made.tokens) == len(plain.tokens) and made.words != plain.words
    stream = stt.stream(prompt)
    words = [w for part in pieces(SOUND, np.random.default_rng(5)) for w in stream.push(part)]
    stream.flush()
    assert (*words, *stream.finish()) == made.words


def test_times_after_a_prompt_are_those_of_the_sound(heard):
    prompt = Prompt(WORD, heard.sound(3))
    words = heard.stt.transcribe(heard.sound(8), prompt).words
    assert words == heard.stt.transcribe(heard.sound(8)).words and len(words) == 4


@pytest.mark.parametrize(
    "prompt",
    [
        ("", np.zeros(10, np.float32)),
        ("a", np.zeros(0, np.float32)),
        ("a", np.zeros((2, 10), np.float32)),
        ("a", np.zeros(10, np.int16)),
        "Loonah",
        ("Loonah",),
        (1, np.zeros(10, np.float32)),
    ],
)
def test_what_is_no_prompt_is_one_line(stt, prompt):
    with pytest.raises(MoshiError, match=r"prompt|one channel|float"):
        stt.stream(prompt)


def listen_for(heard, parts, seconds):
    """Pushes of odd sizes; each word's time against that of its burst; MLX's memory on the way."""
    stream, rng, memory, words = heard.stt.stream(), np.random.default_rng(2), [], []
    sound = heard.sound(seconds)
    for _ in range(parts):
        for part in pieces(sound, rng, 48_000):
            words += stream.push(part)
        gc.collect()
        memory.append(mx.get_active_memory())
    words += stream.finish()
    assert len(words) == parts * seconds // 2
    wrong = [abs(word.start_s - heard.start_s(n)) for n, word in enumerate(words)]
    assert max(wrong) <= 0.04
    assert max(memory[1:]) - min(memory[1:]) < WOBBLE_BYTES


def test_times_do_not_drift_and_memory_is_flat(heard):
    listen_for(heard, 3, 12)


@pytest.mark.long
def test_an_hour_does_not_drift_and_memory_is_flat(heard):
    listen_for(heard, 36, 100)
