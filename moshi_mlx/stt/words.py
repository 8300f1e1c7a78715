"""Words and their times from a stream of text tokens, as they become certain.

EPAD ("a word starts") stands one step before a word's first piece; between two of them lies one
word, or several where fast speech skips the EPAD: each but the last then takes as many steps as it
has pieces. A segment is complete at the next EPAD; the last one ends with EOS or after a second.
Source: kyutai-labs/delayed-streams-modeling, `stt_from_file_pytorch.py`.
"""

import copy
from typing import Protocol

from ..text.word import Word

FRAME_RATE_HZ = 12.5
LAST_WORD_STEPS = 12.5  # a second: the longest that a word without an end may take
EOS = 2


class Pieces(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...


class WordReader:
    """Text tokens, one a step -> words. Pieces before the first EPAD are no word: `leading`.

    `offset_s`: how much later than its sound a token comes (the model's delay and the silence that
    was put in front); `pad`, `epad`: the ids of silence and of a word's start.
    """

    def __init__(self, tokenizer: Pieces, offset_s: float, pad: int = 3, epad: int = 0) -> None:
        self._tokenizer, self._offset_s = tokenizer, offset_s
        self.pad, self._epad = pad, epad
        self._segment: list[int] = []
        self._start = 0  # step of the segment's first token
        self._open = False  # after an EPAD, before EOS
        self._leading: list[int] = []
        self.steps = 0

    @property
    def leading(self) -> str:
        """Text that came before the first word's start."""
        return self._tokenizer.decode(self._leading)

    @property
    def pending(self) -> str:
        """The text of the segment that isn't complete yet."""
        return self._text(self._segment)

    @property
    def pending_start_s(self) -> float:
        """When that began."""
        return self._seconds(self._start)

    def fork(self) -> "WordReader":
        """Another reader that goes on from here."""
        twin = copy.copy(self)
        twin._segment, twin._leading = list(self._segment), list(self._leading)
        return twin

    def back_to(self, step: int) -> None:
        """Go on from an earlier step, after which no text came."""
        self._segment = self._segment[: max(0, step - self._start)]
        self._start, self.steps = min(self._start, step), step

    def push(self, token: int) -> list[Word]:
        """One step's token; the words that it completes."""
        at, self.steps = self.steps, self.steps + 1
        if token == self._epad:
            words = self._words(at) if self._open else []
            self._segment, self._start, self._open = [], at + 1, True
            return words
        if not self._open:
            self._leading += [token] if token > self.pad else []
            return []
        self._segment.append(token)
        return []

    def finish(self) -> list[Word]:
        """The words of the last segment: up to EOS, else a second at most."""
        if not self._open:
            return []
        end = min(self.steps, int(self._start + LAST_WORD_STEPS))
        if EOS in self._segment:
            end = self._start + self._segment.index(EOS)
        return self._words(end)

    def _text(self, tokens: list[int]) -> str:
        return self._tokenizer.decode([token for token in tokens if token > self.pad])

    def _words(self, end: int) -> list[Word]:
        """The words of the open segment, which ends before step `end`."""
        text = self._text(self._segment[: end - self._start])
        words, start = text.split(), self._start
        if len(words) == 1:
            return [self._word(text, start, end)]
        found = []
        for word in words[:-1]:
            pieces = len(self._tokenizer.encode(word))
            found.append(self._word(word, start, start + pieces))
            start += pieces
        return [*found, *(self._word(word, start, end) for word in words[-1:])]

    def _word(self, text: str, start: int, end: int) -> Word:
        return Word(text, self._seconds(start), self._seconds(end))

    def _seconds(self, step: int) -> float:
        return max(0.0, step / FRAME_RATE_HZ - self._offset_s)
