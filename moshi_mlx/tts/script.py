"""What is to be said, as entries of one word each: the text model speaks them one after the other.

A script is a list of turns; even ones are the first speaker's, odd ones the second's, and an empty
first turn lets the second begin. `<break time="1.5s"/>` is a pause.
Source: PyTorch `moshi/models/tts.py`, script_to_entries.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import MoshiError

FRAME_RATE_HZ = 12.5
SPEAKER_TOKENS = (1, 2)  # BOS and EOS stand for the first and the second speaker
LONGEST_BREAK_S = 60.0
LONGEST_WORD_TOKENS = 1000  # a minute of speech and more
CLEANED = (("’", "'"), (":", " "), ("(", ""), (")", ""))
BREAK = re.compile(r"<break\s+time=\"([^\"]*)\"\s*/?>")
SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class ScriptEntry:
    """One word: its tokens (none: a pause) and how many silent steps must follow its start."""

    tokens: tuple[int, ...]
    text: str
    padding: int = 0


class ScriptReader:
    """Turns of a script -> entries; it remembers who spoke last.

    `encode`: one word -> its pieces. `multi_speaker`: the model marks who speaks.
    `padding_between`: how many silent steps to leave between words, at least.
    """

    def __init__(self, encode: Encode, multi_speaker: bool, padding_between: int = 1) -> None:
        if padding_between < 0:
            raise MoshiError(f"padding_between must be 0 or more, not {padding_between}")
        self._encode, self._multi_speaker = encode, multi_speaker
        self._padding_between = padding_between
        self._speaker: int | None = None

    def turn(self, text: str, speaker: int) -> list[ScriptEntry]:
        """The entries of one turn of speaker 0 or 1. Raises MoshiError for breaks that aren't."""
        entries = []
        for part in self._parts(text):
            if isinstance(part, str):
                entries.append(self._word(part, speaker))
            else:
                entries.append(ScriptEntry((), "", round(part * FRAME_RATE_HZ)))
        return entries

    def _parts(self, text: str) -> Iterator[str | float]:
        """Words, and the seconds of breaks."""
        end = 0
        for found in BREAK.finditer(text):
            yield from cleaned(text[end : found.start()]).split()
            yield break_seconds(found[1])
            end = found.end()
        yield from cleaned(text[end:]).split()

    def _word(self, word: str, speaker: int) -> ScriptEntry:
        tokens = self._encode(word)
        if self._multi_speaker and speaker != self._speaker:
            tokens = [SPEAKER_TOKENS[speaker], *tokens]
        self._speaker = speaker
        if len(tokens) > LONGEST_WORD_TOKENS:
            raise MoshiError(f"a word of {len(word)} characters can't be said; split it")
        padding = max(0, self._padding_between + len(tokens) - 1) if self._padding_between else 0
        return ScriptEntry(tuple(tokens), word, padding)


def cleaned(text: str) -> str:
    """Without the marks that the models weren't trained on."""
    for mark, instead in CLEANED:
        text = text.replace(mark, instead)
    return text


def break_seconds(written: str) -> float:
    """ "1.5s" -> 1.5. Raises MoshiError for anything else."""
    match = SECONDS.fullmatch(written)
    if not match or not float(match[1]) <= LONGEST_BREAK_S:
        raise MoshiError(
            f'<break time="{written}"/> can\'t be read: write seconds with a point and up to '
            f'{LONGEST_BREAK_S:g}, such as <break time="1.5s"/>'
        )
    return float(match[1])


def entries_of(
    turns: Sequence[str], encode: Encode, multi_speaker: bool, padding_between: int = 1
) -> list[ScriptEntry]:
    """The entries of a whole script. Raises MoshiError for breaks that can't be read."""
    reader = ScriptReader(encode, multi_speaker, padding_between)
    return [entry for i, text in enumerate(turns) for entry in reader.turn(text, i % 2)]
