"""Text that is being written: its pieces end anywhere, within a word or within a break.

What a piece completes is what the whole text would have there: a word is complete when white space
or a break follows, a break at its end.
"""

import re

from ..errors import MoshiError
from .script import BREAK, ScriptEntry, ScriptReader

LONGEST_BREAK = 60  # characters; more, and it is none
LONGEST_WORD = 10_000  # characters without white space
# what may still become a break, at the end of what has come
BREAK_BEGUN = re.compile(r"<(?:b|br|bre|brea|break|break\s[^<>]*/?)?$")


class ScriptWriter:
    """Pieces of text -> entries, as `ScriptReader.turn` makes them of the whole."""

    def __init__(self, reader: ScriptReader) -> None:
        self._reader = reader
        self._rest, self._speaker = "", 0

    def write(self, piece: str, speaker: int) -> list[ScriptEntry]:
        """More text of speaker 0 or 1, who has the word until the other one writes.

        Raises MoshiError for breaks that can't be read, and for words without an end.
        """
        entries = [] if speaker == self._speaker else self.finish()
        self._speaker, text = speaker, self._rest + piece
        cut = complete_until(text)
        self._rest = text[cut:]
        if len(self._rest) > LONGEST_WORD:
            raise MoshiError(
                f"a word of more than {LONGEST_WORD} characters can't be said; is it a text?"
            )
        return entries + self._reader.turn(text[:cut], speaker)

    def finish(self) -> list[ScriptEntry]:
        """What has come is all. Raises MoshiError as `write` does."""
        rest, self._rest = self._rest, ""
        return self._reader.turn(rest, self._speaker)


def complete_until(text: str) -> int:
    """How much of a text that goes on can't be changed by what follows."""
    end = 0
    for found in BREAK.finditer(text):
        end = found.end()
    begun = BREAK_BEGUN.search(text, max(end, len(text) - LONGEST_BREAK))
    until = len(text) if begun is None else begun.start()
    for i in range(until, end, -1):
        if text[i - 1].isspace():
            return i
    return end
