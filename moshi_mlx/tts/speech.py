"""What is asked for when a text is spoken, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from ..clock import FRAME_SECONDS
from ..provenance import Marker
from ..text.word import beginning


class SpeakOptions(TypedDict, total=False):
    """How a text is spoken.

    voices: of one or two speakers, files or names (`moshi voices`); cfg_coef: guidance (None: 2);
    n_q: codebooks, fewer are quicker; temperatures: of text and audio, 0 is greedy;
    padding_between: silent steps between words, at least; padding_bonus: above 0 slower, below
    faster; max_padding, initial_padding, final_padding: silent steps between words at most, before
    the first word, after the last; prefix: codes [K, F] of a voice to go on from; cfg_is_no_text,
    cfg_is_no_prefix: whether the row that is guided away from hears neither text nor prefix (where
    guidance isn't distilled); mark: True (as without it) puts the inaudible mark of the package's
    public key into the sound, a Marker of this speech's own has another key or a payload, None or
    False: none.
    """

    voices: Sequence[str | Path]
    cfg_coef: float | None
    n_q: int | None
    text_temperature: float | None
    audio_temperature: float | None
    padding_between: int
    padding_bonus: float
    max_padding: int
    initial_padding: int
    final_padding: int
    prefix: np.ndarray | None
    seed: int | None
    cfg_is_no_text: bool
    cfg_is_no_prefix: bool
    mark: Marker | bool | None


@dataclass(frozen=True)
class Speech:
    """What was spoken.

    fed: int32 [steps], the text stream (both streams muxed); codes: int32 [K, frames], realigned,
    -1 where there is no sound yet; words: (word, step of its start); end_step: where the model had
    said its last word, None if it never came to that; pcm: float32 [n] at 24 kHz, marked (see
    SpeakOptions), None for a model without a Mimi; prefix_steps: of a voice that was heard first
    and is no part of the sound.
    """

    fed: np.ndarray
    codes: np.ndarray
    words: tuple[tuple[str, int], ...]
    end_step: int | None
    pcm: np.ndarray | None = None
    prefix_steps: int = 0

    def __repr__(self) -> str:
        said = beginning(" ".join(word for word, _ in self.words))
        sound = "no sound" if self.pcm is None else f"{self.codes.shape[1] * FRAME_SECONDS:.2f} s"
        return f"<Speech, {sound}: {said!r}>"

    @property
    def word_times(self) -> list[tuple[str, float]]:
        """Each word and the second of its start in the sound."""
        return word_times(self.words, self.prefix_steps)


def word_times(words: Sequence[tuple[str, int]], prefix_steps: int) -> list[tuple[str, float]]:
    """(word, step of its start) -> (word, seconds in the sound)."""
    return [(word, (step - prefix_steps) * FRAME_SECONDS) for word, step in words]
