"""Words with times to subtitles that can be read: two lines of 42 characters, seven seconds.

A cue ends with a sentence, at a pause, or when the next word doesn't fit. The limits are those of
the subtitle guides of Netflix and the BBC.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moshi_mlx.text.word import Word

LINE_CHARACTERS = 42
LINES = 2
LONGEST_S = 7.0
PAUSE_S = 1.0  # silence that ends a cue
SENTENCE_ENDS = (".", "!", "?", "…")
CLOSING = "\"')]»”’"


@dataclass(frozen=True)
class Cue:
    """One subtitle: its words, cut into lines."""

    words: tuple[Word, ...]
    lines: tuple[str, ...]

    @property
    def start_s(self) -> float:
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        return self.words[-1].end_s

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def cues_of(words: Iterable[Word]) -> list[Cue]:
    """All words, in order, as cues."""
    cues: list[Cue] = []
    waiting: list[Word] = []
    for word in words:
        if waiting and not joins(waiting, word):
            cues.append(cue_of(waiting))
            waiting = []
        waiting.append(word)
    return [*cues, cue_of(waiting)] if waiting else cues


def joins(waiting: Sequence[Word], word: Word) -> bool:
    """Whether a word goes on with the cue that is being filled."""
    last = waiting[-1]
    if last.text.rstrip(CLOSING).endswith(SENTENCE_ENDS) or word.start_s - last.end_s >= PAUSE_S:
        return False
    if word.end_s - waiting[0].start_s > LONGEST_S:
        return False
    return len(lines_of([*waiting, word])) <= LINES


def cue_of(words: Sequence[Word]) -> Cue:
    """A cue whose lines are about equally long, the lower one not the shorter."""
    texts = [word.text for word in words]
    whole = " ".join(texts)
    if len(whole) <= LINE_CHARACTERS:
        return Cue(tuple(words), (whole,))
    cuts = [(" ".join(texts[:i]), " ".join(texts[i:])) for i in range(1, len(texts))]
    fitting = [cut for cut in cuts if max(map(len, cut)) <= LINE_CHARACTERS]
    if not fitting:
        return Cue(tuple(words), tuple(lines_of(words)))
    return Cue(tuple(words), min(fitting, key=lambda cut: abs(len(cut[0]) - len(cut[1]))))


def lines_of(words: Iterable[Word]) -> list[str]:
    """Words filled into lines, one after the other; a word longer than a line has its own."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word.text) <= LINE_CHARACTERS:
            lines[-1] += f" {word.text}"
        else:
            lines.append(word.text)
    return lines
