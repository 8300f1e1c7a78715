"""Tokens to words as they come: SentencePiece pieces, bytes of one character, silent ids."""

import io
from pathlib import Path

import pytest
import sentencepiece

from moshi_mlx.errors import WeightsError
from moshi_mlx.text.tokenizer import TextStream, TextTokenizer, load_tokenizer

PROSE = ["the cat sat on the mat, and saw a very old dog", "a dog ran to the old cat"] * 9


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> TextTokenizer:
    """Trained on plain letters: anything else falls back to bytes, as in Kyutai's tokenizers."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROSE),
        model_writer=written,
        vocab_size=320,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("spm") / "tokenizer.model"
    path.write_bytes(written.getvalue())
    return TextTokenizer(path)


def streamed(tokenizer: TextTokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [stream.push(token) for token in ids]


def byte(tokenizer: TextTokenizer, value: int) -> int:
    return next(
        i for i in range(len(tokenizer)) if tokenizer._model.id_to_piece(i) == f"<0x{value:02X}>"
    )


@pytest.mark.parametrize("text", ["the old cat", "a café, déjà vu", "日本語 and 😀😀", "x\ty"])
def test_a_stream_gives_the_text_back_with_its_leading_space(
    tokenizer: TextTokenizer, text: str
) -> None:
    said = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(said) == " " + text.replace("\t", " ")  # SentencePiece makes tabs spaces
    assert all("\ufffd" not in part for part in said)


def test_a_character_comes_when_its_last_byte_does(tokenizer: TextTokenizer) -> None:
    ids = [byte(tokenizer, value) for value in "é😀\n".encode()]
    assert streamed(tokenizer, ids) == ["", "é", "", "", "", "😀", "\n"]


def test_bytes_that_make_no_character_are_left_out_and_spoil_nothing(
    tokenizer: TextTokenizer,
) -> None:
    ids = [byte(tokenizer, value) for value in (0xFF, 0xC3, *"é".encode(), 0xE2, 0x82)]
    word = tokenizer.encode("cat")
    assert "".join(streamed(tokenizer, [*ids, *word, *ids[2:4]])) == "é caté"


def test_silent_control_and_unknown_ids_print_nothing(tokenizer: TextTokenizer) -> None:
    (cat, *_) = tokenizer.encode("cat")
    stream = tokenizer.stream(silent=(cat,))
    assert [stream.push(t) for t in (cat, 0, 1, 2, -1, -2, len(tokenizer), 10**9)] == [""] * 8


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_a_damaged_tokenizer_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in (b"", b"no tokenizer", b"{}"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=name) as caught:
            load_tokenizer(path).encode("x")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["▁今日", "▁は", "▁いい", "天気", "▁です", "。"], " 今日はいい天気です。"),
        (["▁今日", "▁", "は"], " 今日は"),
        (["▁今日", "▁", "Moshi", "▁と"], " 今日 Moshi と"),
        (["▁hello", "▁今日", "▁hello"], " hello 今日 hello"),
        (["▁今日", "▁"], " 今日"),
    ],
)
def test_words_of_japanese_stand_without_spaces(pieces: list[str], text: str) -> None:
    stream = TextStream(Pieces(pieces), ())
    assert "".join(stream.push(i) for i in range(len(pieces))) == text


class Pieces:
    """A vocabulary as SentencePiece answers for it."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def get_piece_size(self) -> int:
        return len(self.pieces)

    def id_to_piece(self, token: int) -> str:
        return self.pieces[token]

    def is_control(self, token: int) -> bool:
        return False

    is_unknown = is_control
