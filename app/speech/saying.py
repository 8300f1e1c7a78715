"""A text spoken while it is written: heard as it comes, and kept."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import numpy as np

from moshi_mlx.errors import MoshiError
from moshi_mlx.tts import SpeechStream

PIECE_BYTES = 4096
LINE_ENDS = re.compile(r"([\r\n]+)")
READY_FRAMES = (
    3  # 240 ms are there before the first is heard: a machine that stumbles isn't noticed
)


Piece = tuple[str, int]  # a text cut anywhere, and which of two speakers says it


class Aloud(Protocol):
    """A loudspeaker that plays what is made ahead of time."""

    def say(self, pcm: np.ndarray) -> None: ...


@dataclass
class Saying:
    """Where a speech goes, as it is made. aloud: where it is heard, None for nowhere; keep: what
    takes each piece of it, float32 [n], besides."""

    aloud: Aloud | None
    keep: Callable[[np.ndarray], None] | None = None
    words: list[tuple[str, float]] = field(default_factory=list)
    samples: int = 0
    _ready: list[np.ndarray] | None = field(default_factory=list)

    def say(self, stream: SpeechStream, pieces: Iterable[Piece]) -> None:
        """All of a text, as its pieces come. Raises MoshiError for one without words."""
        for piece, speaker in pieces:
            stream.write(piece, speaker)
            self._speak(stream)
        stream.end()
        if not stream.has_words:
            raise MoshiError("there is nothing to say: the text has no words")
        self._speak(stream)
        self._begin()

    def _speak(self, stream: SpeechStream) -> None:
        for pcm in stream.frames():
            self.words += stream.new_words()
            if pcm is not None:
                self._take(pcm)

    def _take(self, pcm: np.ndarray) -> None:
        self.samples += len(pcm)
        if self.keep is not None:
            self.keep(pcm)
        if self.aloud is None:
            return
        if self._ready is None:
            self.aloud.say(pcm)
            return
        self._ready.append(pcm)
        if len(self._ready) >= READY_FRAMES:
            self._begin()

    def _begin(self) -> None:
        """Let be heard what has waited for a beginning without gaps."""
        ready, self._ready = self._ready, None
        for pcm in ready or ():
            if self.aloud is not None:
                self.aloud.say(pcm)


def in_turns(pieces: Iterable[str], speakers: int) -> Iterator[Piece]:
    """Who says what: of two speakers a line each, in turn; empty lines are nobody's."""
    speaker, begun = 0, False
    for piece in pieces:
        for part in LINE_ENDS.split(piece) if speakers > 1 else [piece]:
            if speakers > 1 and LINE_ENDS.fullmatch(part):
                speaker, begun = 1 - speaker if begun else speaker, False
            elif part:
                begun |= not part.isspace()
                yield part, speaker


def written(file: TextIO | None) -> Iterator[str]:
    """What is written to a pipe, as soon as it is; a character that is cut at the end is left out.

    Raises MoshiError for what is no UTF-8.
    """
    if file is None:
        raise MoshiError('there is no stdin to read from; give the text in place of "-"')
    decoder, read = codecs.getincrementaldecoder("utf-8")(), reader_of(file)
    while data := read():
        try:
            yield decoder.decode(data)
        except UnicodeDecodeError:
            raise MoshiError("stdin is no UTF-8 text; convert it first") from None


def reader_of(file: TextIO) -> Callable[[], bytes]:
    """Reads what is there, and waits only where nothing is."""
    return lambda: file.buffer.read1(PIECE_BYTES)  # type: ignore[attr-defined]
