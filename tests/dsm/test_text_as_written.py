"""Text that is spoken while it is written: cut anywhere, it is said as the whole is."""

import gc
import random
import tracemalloc
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import MoshiError
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts.machine import NEW_WORD, PAD, Pace, TextMachine
from moshi_mlx.tts.script import ScriptReader, entries_of
from moshi_mlx.tts.speaker import ENTRIES_MAX
from moshi_mlx.tts.writing import LONGEST_WORD, ScriptWriter
from tests.support.models.small_speaker import with_codec

GOLDEN = Path(__file__).parents[1] / "golden"
TOKENIZER = TextTokenizer(GOLDEN / "dsm_tts" / "tokenizer_spm_8k_en_fr_audio.model")
GREEDY: Any = {"text_temperature": 0.0, "audio_temperature": 0.0}
WOBBLE_BYTES = 50_000  # of MLX's memory: what a step holds while it runs
WORDS = ("Hello", "quarter", "do", "you", "hear?", "a:b", "(so)", "l’eau")
WORDS += ("<i>", "x<break", "<b", "1<2")
GAPS = (" ", " ", " ", "\n", "  ", "\t")


@pytest.fixture(scope="module")
def speaker():
    return moshi_mlx.load_tts(GOLDEN / "dsm_tts", dtype="float32")


def random_turn(rng, most=6):
    """Words and breaks, with white space between or none."""
    parts = []
    for _ in range(rng.randint(0, most)):
        if rng.random() < 0.25:
            seconds = rng.choice(["0", "0.1", "0.3", "1"])
            parts.append(f'<break time="{seconds}s"{rng.choice(["/>", " />", ">"])}')
        else:
            parts.append(rng.choice(WORDS))
        parts.append(rng.choice(GAPS) if rng.random() < 0.9 else "")
    return "".join(parts)


def pieces(text, rng, longest=8):
    at = 0
    if not text:
        yield text  # it is somebody else's turn all the same
    while at < len(text):
        size = rng.randint(1, longest)
        yield text[at : at + size]
        at += size


def fed(machine, arriving, rng, predicted):
    """What a machine feeds while entries arrive, in lists of any number, when they are needed."""
    out, arriving = [], list(arriving)
    while machine.end_step is None and len(out) < len(predicted):
        if machine.ready(complete=not arriving) and rng.random() < 0.9:
            out.append(machine.advance(predicted[len(out)]))
        elif arriving:
            machine.append(arriving.pop(0))
    return out, machine.words, machine.end_step


def test_four_hundred_scripts_cut_anywhere_are_those_of_the_whole():
    """Breaks, two speakers, pieces of random length, arriving while the machine steps."""
    rng = random.Random(3)
    several = 0
    for _ in range(400):
        turns = [random_turn(rng) for _ in range(rng.randint(1, 4))]
        multi, between = rng.random() < 0.5, rng.choice([0, 1, 2])
        whole = entries_of(turns, TOKENIZER.encode, multi, between)
        writer = ScriptWriter(ScriptReader(TOKENIZER.encode, multi, between))
        arrived = [
            writer.write(piece, i % 2)
            for i, turn in enumerate(turns)
            for piece in pieces(turn, rng)
        ]
        arrived.append(writer.finish())
        assert [entry for entries in arrived for entry in entries] == whole, turns
        several += sum(1 for entries in arrived if entries) > 1
        ahead, pace = rng.choice([0, 2]), Pace(rng.choice([2, 8]), rng.choice([0, 2]))
        predicted = rng.choices([NEW_WORD, PAD, PAD, 50], k=800)
        at_once = fed(TextMachine(len(TOKENIZER), ahead, pace, whole), [], rng, predicted)
        machine = TextMachine(len(TOKENIZER), ahead, pace)
        assert fed(machine, arrived, rng, predicted) == at_once and at_once[2] is not None
    assert several > 320


def check_scripts(speaker, scripts, seed):
    rng = random.Random(seed)
    for _ in range(scripts):
        turns = [random_turn(rng, 3) or "a" for _ in range(rng.randint(1, 3))]
        turns[0] += " do"
        whole = speaker.speak(turns, **GREEDY)
        stream, early = speaker.stream(**GREEDY), 0
        for i, turn in enumerate(turns):
            for piece in pieces(turn, rng):
                stream.write(piece, i % 2)
                early += sum(1 for _ in stream.frames())
        stream.end()
        for _ in stream.frames():
            pass
        spoken = stream.speech()
        assert spoken.words == whole.words and spoken.end_step == whole.end_step
        assert np.array_equal(spoken.codes, whole.codes) and np.array_equal(spoken.fed, whole.fed)


def test_scripts_cut_anywhere_sound_as_the_whole_does(speaker):
    check_scripts(speaker, 4, 1)


@pytest.mark.long
def test_a_thousand_scripts_cut_anywhere_sound_as_the_whole_does(speaker):
    check_scripts(speaker, 1000, 2)


def test_a_word_is_said_when_it_is_whole_not_before(speaker):
    stream = speaker.stream(**GREEDY)
    stream.write("quar")
    assert not stream.has_words
    stream.write("ter")
    assert not stream.has_words
    stream.write(" to")
    assert stream.waiting == 1
    stream.end()
    assert stream.waiting == 2
    for _ in stream.frames():
        pass
    assert stream.ended and [w for w, _ in stream.new_words()] == ["quarter", "to"]


def test_words_after_a_voice_that_was_heard_first_count_from_the_sound():
    """The steps of a prefix are none of the sound: its first frame is the first of the text's."""
    speaker = moshi_mlx.load_tts(GOLDEN / "dsm_tts_prefix", dtype="float32")
    prefix = np.random.default_rng(0).integers(0, 48, (speaker.lm.config.dep_q, 9))
    speech = speaker.speak(["a b"], prefix=prefix, **GREEDY)
    plain = speaker.speak(["a b"], **GREEDY)
    assert speech.word_times[0][1] == pytest.approx(0.08 * (speech.words[0][1] - 9))
    assert plain.word_times[0][1] == pytest.approx(0.08 * plain.words[0][1])
    assert 0 <= speech.word_times[0][1] < 1.0


@pytest.fixture(scope="module")
def sounding(tmp_path_factory):
    return moshi_mlx.load_tts(with_codec(tmp_path_factory.mktemp("tts") / "model"), "float32")


def speak_on(speaker, parts, steps):
    """A text without an end; words against the frames of sound, and memory on the way."""
    tracemalloc.start()
    stream, memory, given, late = speaker.stream(keep=False, **GREEDY, seed=0), [], 0, []
    done = said = 0
    for part in range(parts):
        while done < (part + 1) * steps:
            stream.write("do you hear ")
            for frame in stream.frames():
                done += 1
                given += frame is not None
                new = stream.new_words()
                late += [given * 0.08 - start_s for _, start_s in new]
                said += len(new)
        gc.collect()
        memory.append((mx.get_active_memory(), tracemalloc.get_traced_memory()[0]))
    tracemalloc.stop()
    settled = late[30:]
    assert said > parts * steps / 20
    assert max(settled) - min(settled) <= 0.08 and len(settled) > 10
    for of_kind, most in zip(
        zip(*memory[1:], strict=True), (WOBBLE_BYTES, 300 * said), strict=True
    ):
        assert max(of_kind) - min(of_kind) < most  # of a word its text and times stay
    with pytest.raises(MoshiError, match="keeps no speech"):
        stream.speech()


def test_a_text_without_an_end_is_spoken_on_and_memory_is_flat(sounding):
    speak_on(sounding, 3, 100)


@pytest.mark.long
def test_an_hour_of_speech_does_not_drift_and_memory_is_flat(sounding):
    speak_on(sounding, 9, 5000)


def test_what_never_ends_is_refused_in_one_line(speaker):
    stream = speaker.stream()
    with pytest.raises(MoshiError, match="is it a text"):
        for _ in range(LONGEST_WORD // 1000 + 2):
            stream.write("x" * 1000)
    with pytest.raises(MoshiError, match=r"100000 words are hours of speech"):
        speaker.speak(["word " * 100_000])
    assert ENTRIES_MAX < 100_000


@pytest.mark.parametrize(
    "text", ['<break time="1,5s"/> a ', '<break time="', "<break", "a <break tim", "< b", "<"]
)
def test_a_break_that_is_cut_or_wrong_is_what_it_is_in_the_whole(text):
    try:
        whole = entries_of([text], TOKENIZER.encode, False)
    except MoshiError as error:
        whole = str(error)
    writer = ScriptWriter(ScriptReader(TOKENIZER.encode, False))
    try:
        made = [entry for letter in text for entry in writer.write(letter, 0)] + writer.finish()
    except MoshiError as error:
        made = str(error)
    assert made == whole
