"""Streaming speech recognition: a language model whose text stream writes down what it hears.

All codebooks come from the user; the text comes `delay_s` after the sound.
Source: kyutai-labs/delayed-streams-modeling. Shapes: T frames, K codebooks.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np

from ..clock import FRAME_SAMPLES
from ..codec.interface import checked_pcm
from ..errors import MoshiError
from ..lm.model import Lm
from ..mimi import Mimi
from ..text.tokenizer import TextTokenizer
from .batch import Desk, TellHeard
from .hearing import Hearing, Lead
from .prompt import Prompt, PromptedFrame, prompt_frames
from .stream import TranscriptStream
from .transcript import Transcript
from .watch import SpeechWatch
from .words import FRAME_RATE_HZ, WordReader


class Transcriber:
    """A speech to text model. Weights never change; each `stream` holds its own state."""

    def __init__(
        self, lm: Lm, mimi: Mimi, tokenizer: TextTokenizer, delay_s: float, prefix_s: float
    ) -> None:
        self.lm, self.mimi, self.tokenizer = lm, mimi, tokenizer
        self.delay = delay_s * FRAME_RATE_HZ  # steps by which text lags behind
        self.prefix_frames = math.ceil(prefix_s * FRAME_RATE_HZ)
        self.offset_s = self.prefix_frames / FRAME_RATE_HZ + delay_s

    def __repr__(self) -> str:
        delay_s = self.delay / FRAME_RATE_HZ
        return f"<Transcriber: {self.lm!r}, {self.mimi!r}, {delay_s:g} s behind>"

    @property
    def has_pauses(self) -> bool:
        """Whether the model tells how likely a pause is."""
        return self.lm.config.extra_heads > 0

    def transcribe(
        self, pcm: np.ndarray, prompt: Prompt | None = None, restarts: bool = True
    ) -> Transcript:
        """A recording, float32 [n] at 24 kHz in [-1, 1]; options as in `stream`.

        Raises MoshiError for another shape, and for what is no prompt.
        """
        stream = self.stream(prompt, restarts)
        stream.push(checked_pcm(pcm))
        stream.finish()
        return stream.transcript()

    def transcribe_all(
        self,
        sounds: Iterable[np.ndarray],
        batch: int = 4,
        restarts: bool = True,
        heard: TellHeard | None = None,
    ) -> Iterator[tuple[int, Transcript]]:
        """Recordings, `batch` of them in one pass over the weights: number and transcript of each.

        In the order in which they end; one that ends makes room for the next, which is asked for
        then. heard: told of progress, as (number, seconds heard). Raises as `transcribe` does, and
        MoshiError for a batch that is none.
        """
        if type(batch) is not int or batch < 1:
            raise MoshiError(f"batch must be a whole number from 1 up, not {batch!r}")

        def hearing() -> Hearing:
            return self.hearing(None, SpeechWatch() if restarts else None)

        return Desk(self.lm, self.mimi, sounds, hearing, batch).run(heard)

    def stream(self, prompt: Prompt | None = None, restarts: bool = True) -> TranscriptStream:
        """Speech as it comes, without an end.

        prompt: a text and its sound, heard first, for the spelling of names. restarts: where ten
        seconds of speech bring no text, the model's state is begun anew and hears up to 15 s again.
        Raises MoshiError for what is no prompt.
        """
        model = self.lm if prompt is None else self._prompted
        watch = SpeechWatch() if restarts else None
        return TranscriptStream(model, self.mimi, self.hearing(prompt, watch))

    def hearing(self, prompt: Prompt | None, watch: SpeechWatch | None) -> Hearing:
        """What reads one speaker's tokens. Raises MoshiError for what is no prompt."""
        silence = np.zeros((self.prefix_frames, FRAME_SAMPLES), np.float32)
        frames, pieces = silence, []
        if prompt is not None:
            frames = np.concatenate([silence, prompt_frames(prompt)])
            pieces = self.tokenizer.encode(prompt[0])
        lead = Lead(self.prefix_frames, frames, pieces, self.delay)
        config = self.lm.config
        reader = WordReader(
            self.tokenizer, self.offset_s, config.text_padding_id, config.text_end_padding_id
        )
        return Hearing(reader, lead, config.extra_heads, watch)

    @cached_property
    def _prompted(self) -> PromptedFrame:
        return PromptedFrame(self.lm)
