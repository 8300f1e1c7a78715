"""Words with their times, and the pieces that a speaking model gives them in."""

from typing import NamedTuple

from ..clock import FRAME_SECONDS

LONGEST_END_S = 0.4  # after the last piece of a word that nothing follows


class Word(NamedTuple):
    """A word, and when it was said: seconds from the first sample of the sound."""

    text: str
    start_s: float
    end_s: float


def beginning(text: str, most: int = 60) -> str:
    """As much of it as one line about it holds."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class SpokenWords:
    """Pieces of text, a leading space where a word begins -> words as the next one begins.

    A speaking model tells when a word begins and not when it ends: it is taken to last until the
    next one, or half a second where nothing follows.
    """

    def __init__(self) -> None:
        self._text = ""
        self._start_s = self._last_s = 0.0

    def push(self, start_s: float, piece: str) -> list[Word]:
        """The piece of the frame that begins at `start_s` ("" for none); the words it ends."""
        ended: list[Word] = []
        for character in piece:
            if character.isspace():
                ended += self._end(start_s)
                continue
            if not self._text:
                self._start_s = start_s
            self._text += character
            self._last_s = start_s
        return ended

    def finish(self) -> list[Word]:
        """The last word, if one is open."""
        return self._end(float("inf"))

    def _end(self, next_s: float) -> list[Word]:
        text, self._text = self._text, ""
        if not text:
            return []
        end_s = min(max(next_s, self._start_s), self._last_s + FRAME_SECONDS + LONGEST_END_S)
        return [Word(text, self._start_s, end_s)]
