"""Scripts to entries and entries to what is fed, against Kyutai's PyTorch package."""

import json
import random
from pathlib import Path

import pytest

from moshi_mlx.errors import MoshiError
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts.machine import NEW_WORD, PAD, Pace, TextMachine
from moshi_mlx.tts.script import ScriptEntry, ScriptReader, entries_of

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_tts"
TOKENIZER = TextTokenizer(GOLDEN / "tokenizer_spm_8k_en_fr_audio.model")


def as_json(entries):
    return [{"tokens": list(e.tokens), "text": e.text, "padding": e.padding} for e in entries]


def of_json(entries):
    return [ScriptEntry(tuple(e["tokens"]), e.get("text", "w"), e["padding"]) for e in entries]


@pytest.mark.parametrize("case", json.loads((GOLDEN / "scripts.json").read_text()))
def test_a_script_becomes_kyutais_entries(case):
    made = entries_of(
        case["script"], TOKENIZER.encode, case["multi_speaker"], case["padding_between"]
    )
    assert as_json(made) == case["entries"]


@pytest.mark.parametrize("case", json.loads((GOLDEN / "machine.json").read_text()))
def test_the_machine_feeds_what_kyutais_does(case):
    machine = TextMachine(
        len(TOKENIZER),
        case["second_stream_ahead"],
        Pace(case["max_padding"], case["initial_padding"]),
        of_json(case["entries"]),
    )
    fed = []
    for token in case["predicted"]:
        both = machine.answers()
        fed.append(machine.advance(token))
        assert fed[-1] == (both.if_word if token == NEW_WORD else both.if_pad)
    assert fed == case["out"]
    assert machine.end_step == case["end_step"]
    assert machine.consumed == case["consumption_times"]


def spoken(machine, predicted, arriving=()):
    """Step until the end; what has not arrived yet comes one entry at a time, when needed."""
    fed, arriving = [], list(arriving)
    while machine.end_step is None and len(fed) < len(predicted):
        if machine.ready(complete=not arriving):
            fed.append(machine.advance(predicted[len(fed)]))
        else:
            machine.append([arriving.pop(0)])
    return fed, machine.end_step, machine.words


def random_entry(rng):
    """A break or a word."""
    if rng.random() < 0.2:
        return ScriptEntry((), "", rng.randint(0, 9))
    return ScriptEntry(
        tuple(rng.choices(range(1, 120), k=rng.randint(1, 4))), "w", rng.randint(0, 5)
    )


def test_text_that_arrives_piece_by_piece_is_spoken_as_the_whole_is():
    """Four hundred scripts with breaks and speakers: the steps only wait while it could matter."""
    rng = random.Random(1)
    for _ in range(400):
        ahead, pace = rng.choice([0, 1, 2, 2]), Pace(rng.choice([2, 8]), rng.choice([0, 2]))
        entries = [
            ScriptEntry((), "", rng.randint(0, 9))
            if rng.random() < 0.2
            else ScriptEntry(
                tuple(rng.choices(range(1, 120), k=rng.randint(1, 4))), "w", rng.randint(0, 5)
            )
            for _ in range(rng.randint(1, 12))
        ]
        predicted = rng.choices([NEW_WORD, PAD, PAD, 50], k=400)
        whole = spoken(TextMachine(120, ahead, pace, entries), predicted)
        assert spoken(TextMachine(120, ahead, pace), predicted, entries) == whole
        assert whole[1] is not None


def test_a_turn_remembers_who_spoke_before():
    reader = ScriptReader(TOKENIZER.encode, multi_speaker=True)
    first, again, other = reader.turn("a", 0), reader.turn("a", 0), reader.turn("a", 1)
    assert first[0].tokens[0] == 1 and other[0].tokens[0] == 2
    assert first[0].tokens[1:] == again[0].tokens == other[0].tokens[1:]


@pytest.mark.parametrize("time", ["1,5s", "1.5", "s", "", "-1s", "1e3s", "99999s", "nan"])
def test_a_break_that_cannot_be_read_is_refused(time):
    with pytest.raises(MoshiError, match="write seconds with a point"):
        entries_of([f'a <break time="{time}"/> b'], TOKENIZER.encode, False)


def test_what_is_no_word_is_refused():
    with pytest.raises(MoshiError, match="split it"):
        entries_of(["x" * 5000], TOKENIZER.encode, False)
    with pytest.raises(MoshiError, match="padding_between"):
        entries_of(["a"], TOKENIZER.encode, False, padding_between=-1)
