"""Words and times from text tokens, against Kyutai's script on the golden runs."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.stt.words import WordReader
from moshi_mlx.text.tokenizer import TextTokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_stt"
TOKENIZER = TextTokenizer(GOLDEN / "tokenizer_en_fr_audio_8000.model")
RUNS = json.loads((GOLDEN / "golden.json").read_text())
ARRAYS = mx.load(str(GOLDEN / "golden.safetensors"))
EPAD, PAD, EOS = 0, 3, 2


def read(tokens, offset_s=0.0):
    reader = WordReader(TOKENIZER, offset_s)
    words = [word for token in tokens for word in reader.push(int(token))]
    return reader, words + reader.finish()


@pytest.mark.parametrize("name", ["aligned", "script"])
def test_words_and_times_are_kyutais(name):
    tokens = np.array(ARRAYS[f"{name}.text_tokens"])
    reader, words = read(tokens, RUNS[name]["offset_seconds"])
    assert [list(word) for word in words] == RUNS[name]["words"]
    first = int(np.argmax(tokens == EPAD))
    before = [int(t) for t in tokens[:first] if t > PAD]
    assert reader.leading == TOKENIZER.decode(before) != ""


def test_the_last_word_ends_with_eos_or_after_a_second():
    piece = TOKENIZER.encode("a")
    ended = [EPAD, *piece, PAD, EOS, *[PAD] * 30]
    (word,) = read(ended)[1]
    assert (word.start_s, word.end_s) == (1 / 12.5, (ended.index(EOS)) / 12.5)
    (word,) = read([EPAD, *piece, *[PAD] * 30])[1]
    assert word.end_s == 13 / 12.5
    (word,) = read([EPAD, *piece, PAD])[1]
    assert word.end_s == (2 + len(piece)) / 12.5


def test_a_stream_without_a_word_start_has_no_words_but_its_text():
    reader, words = read([PAD, *TOKENIZER.encode("a"), PAD])
    assert words == [] and reader.leading == "a" and reader.pending == ""


def test_what_is_being_said_can_be_read_before_it_is_certain():
    reader = WordReader(TOKENIZER, 0.0)
    for token in [EPAD, *TOKENIZER.encode("quarter")]:
        assert reader.push(token) == []
    assert reader.pending.strip() == "quarter"
