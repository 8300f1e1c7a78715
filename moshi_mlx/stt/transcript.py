"""What was said: words with times, and the tokens that they were read from."""

from dataclasses import dataclass

import numpy as np

from ..text.word import beginning
from .words import Word


@dataclass(frozen=True)
class Transcript:
    """What was said. tokens: int32 [T], one a frame of the sound with its silences.

    words: with their times in the sound; leading: text before the first word's start, which has no
    time; pauses: float32 [T, heads], how likely a pause of 0.5, 1, 2, 3 s has begun, None where the
    model has no such heads.
    """

    tokens: np.ndarray
    words: tuple[Word, ...]
    leading: str
    pauses: np.ndarray | None

    def __repr__(self) -> str:
        return f"<Transcript of {len(self.tokens)} frames: {beginning(self.text)!r}>"

    @property
    def text(self) -> str:
        """All that was said."""
        return " ".join(part for part in (self.leading, *(w.text for w in self.words)) if part)
