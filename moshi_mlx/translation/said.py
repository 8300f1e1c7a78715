"""What a translation model's steps become, on the host: frames, words with their times, the end.

Text leads its sound as the model's delay line has it: token i belongs to the i-th complete frame.
Shapes: K codebooks.
"""

from array import array

import numpy as np

from ..lm.generator import Step
from ..stt.words import WordReader
from ..text.tokenizer import TextTokenizer
from ..text.word import Word

EOS, PAD, EPAD = 2, 3, 0


class Said:
    """One translation as far as it has come. keep: whether its codes are held."""

    def __init__(self, tokenizer: TextTokenizer, keep: bool = True) -> None:
        self._reader = WordReader(tokenizer, 0.0, PAD, EPAD)
        self._text = tokenizer.stream((PAD, EPAD))
        self._keep, self._tokens = keep, array("i")
        self.words: list[Word] = []
        self.codes: list[np.ndarray] = []  # int32 [K] each, realigned
        self.frames = 0  # that were completed
        self.source_ended = False  # from then on the model's EOS counts
        self.end_output: int | None = None  # the frame that said it

    @property
    def tokens(self) -> np.ndarray:
        """int32 [steps], text tokens as sampled."""
        return np.array(self._tokens, np.int32)

    @property
    def leading(self) -> str:
        """Text before the first word's start, which has no time."""
        return self._reader.leading

    def first(self, token: int) -> None:
        """What the first frame brought when it went in for the first time."""
        self._tokens.append(token)

    def take(self, step: Step) -> str:
        """What a step brought; the text that belongs to the frame which it completes."""
        self._tokens.append(step.text_token)
        if step.codes is None:
            return ""
        token = self._tokens[self.frames]
        if token == EOS and self.source_ended:
            self.end_output = self.frames
        self.frames += 1
        if self._keep:
            self.codes.append(step.codes)
        return self.read(token)

    def read(self, token: int) -> str:
        """The token of a complete frame; the text that it brings. EOS is silence."""
        token = PAD if token == EOS else token
        self.words += self._reader.push(token)
        return self._text.push(token)

    def finish(self) -> None:
        """Nothing follows: the last words."""
        self.words += self._reader.finish()
