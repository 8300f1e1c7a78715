"""Text tokens to words, streamed: SentencePiece pieces as they come, PAD and EPAD silent."""

import codecs
import re
from pathlib import Path
from typing import Protocol

from ..errors import MoshiError, WeightsError

WORD_START = "▁"  # SentencePiece writes a leading space as this
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
UNSPACED = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")  # Japanese
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line end: no text


class TokenReader(Protocol):
    """A stream of tokens being read: the text that each completes, "" where it completes none."""

    def push(self, token: int) -> str: ...


class Tokenizer(Protocol):
    """Text to ids, and streams of ids to text."""

    def __len__(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def piece(self, token: int) -> str: ...
    def stream(self, silent: tuple[int, ...] = ()) -> TokenReader: ...


def checked_text(text: str) -> str:
    """Raises MoshiError for what came from a terminal or file in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MoshiError("the text holds bytes that are no UTF-8: give it in that") from None
    return text


def load_tokenizer(path: Path) -> Tokenizer:
    """SentencePiece's `*.model` or Hugging Face's `tokenizer.json`. Raises WeightsError."""
    return JsonTokenizer(path) if path.suffix == ".json" else TextTokenizer(path)


class TextTokenizer:
    """A SentencePiece model: ids to pieces and text to ids. Raises WeightsError when unreadable."""

    def __init__(self, path: Path) -> None:
        import sentencepiece

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"{path} is no SentencePiece model ({error}); fetch it again"
            ) from None

    def __len__(self) -> int:
        return self._model.get_piece_size()

    def __repr__(self) -> str:
        return f"<TextTokenizer of {len(self)} pieces>"

    def encode(self, text: str) -> list[int]:
        return self._model.encode(checked_text(text))

    def pieces(self, ids: list[int]) -> str:
        """Every piece as it stands in the vocabulary, control pieces too, "▁" as a space."""
        return "".join(map(self._model.id_to_piece, ids)).replace(WORD_START, " ")

    def decode(self, ids: list[int]) -> str:
        """Their text, without control pieces."""
        return self._model.decode(ids)

    def piece(self, token: int) -> str:
        """As it stands in the vocabulary."""
        return self._model.id_to_piece(token)

    def stream(self, silent: tuple[int, ...] = ()) -> "TextStream":
        """A decoder of one stream of tokens; `silent` ids print nothing."""
        return TextStream(self._model, silent)


class TextStream:
    """Turns tokens into text one at a time; bytes of one character are held until it is whole.

    Bytes that make no character, characters that a terminal would obey, and spaces between two
    Japanese ones are left out.
    """

    def __init__(self, model, silent: tuple[int, ...]) -> None:
        self._model, self._silent = model, frozenset(silent)
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._unspaced = False  # the last character is of a script without spaces
        self._space = ""  # held until it is seen what comes after it

    @property
    def pending(self) -> bytes:
        """Bytes of a character that isn't whole yet; set, those that another stream held."""
        return self._bytes.getstate()[0]

    @pending.setter
    def pending(self, held: bytes) -> None:
        self._bytes.setstate((held, 0))

    def push(self, token: int) -> str:
        """The text that `token` completes: "" for silent, control and unknown ids."""
        if token in self._silent or not 0 <= token < self._model.get_piece_size():
            return ""
        piece = self._model.id_to_piece(token)
        if match := BYTE_PIECE.fullmatch(piece):
            return self._joined(self._bytes.decode(bytes([int(match[1], 16)])))
        self._bytes.reset()
        if self._model.is_control(token) or self._model.is_unknown(token):
            return ""
        return self._joined(piece.replace(WORD_START, " "))

    def _joined(self, piece: str) -> str:
        """With the space that was held, or without it."""
        text = self._space + CONTROLS.sub("", piece)
        word = text.lstrip(" ")
        self._space = ""
        if self._unspaced and not word:
            self._space = text
            return ""
        if self._unspaced and UNSPACED.match(word):
            text = word
        if text:
            self._unspaced = UNSPACED.match(text[-1]) is not None
        return text


class JsonTokenizer:
    """Hugging Face's `tokenizer.json`, as Helium's repositories in transformers' layout hold it."""

    def __init__(self, path: Path) -> None:
        import tokenizers

        try:
            self._model = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise WeightsError(f"{path} is no tokenizer.json ({error}); fetch it again") from None

    def __len__(self) -> int:
        return self._model.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._model.encode(checked_text(text), add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Their text, without control tokens."""
        return self._model.decode(ids, skip_special_tokens=True)

    def piece(self, token: int) -> str:
        """As it stands in the vocabulary."""
        return self._model.id_to_token(token) or ""

    def stream(self, silent: tuple[int, ...] = ()) -> "JsonStream":
        return JsonStream(self._model, silent)


class JsonStream:
    """As TextStream; control tokens print nothing."""

    def __init__(self, model, silent: tuple[int, ...]) -> None:
        from tokenizers.decoders import DecodeStream

        self._model, self._silent = model, frozenset(silent)
        self._decode = DecodeStream(skip_special_tokens=True)

    def push(self, token: int) -> str:
        if token in self._silent or self._model.id_to_token(token) is None:
            return ""
        return CONTROLS.sub("", self._decode.step(self._model, token) or "")
