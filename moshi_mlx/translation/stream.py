"""Translation while somebody speaks, without an end: sound in, sound and words out.

Codec and model are one evaluation a frame. Source: PyTorch `moshi/run_inference.py`.
Shapes: K codebooks, F frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import mlx.core as mx
import numpy as np

from ..audio.finite import finite
from ..clock import FRAME_SAMPLES, frames_in
from ..codec.interface import one_channel
from ..errors import MoshiError
from ..lm.generator import LmGenerator
from ..mimi import MimiStream
from ..provenance import Marker
from ..stt import Transcript
from .said import Said

LONGEST_END_S = 60.0  # that the model may go on for after the source has ended


@dataclass(frozen=True)
class TranslatedFrame:
    """80 ms of the translation.

    pcm: float32 [1920] at 24 kHz, marked (see `Translator.stream`); text: what is said in it, ""
    for silence, a leading space kept; codes: int32 [K].
    """

    pcm: np.ndarray
    text: str
    codes: np.ndarray


class TranslationStream:
    """One speaker's sound in, the translation out. Made by `Translator.stream`."""

    def __init__(
        self, generator: LmGenerator, mimi: MimiStream, said: Said, marker: Marker | None
    ) -> None:
        self._generator, self._mimi, self._marker = generator, mimi, marker
        self.said = said  # the words so far, and the tokens that they were read from
        self._rest = np.zeros(0, np.float32)
        self._heard_any = self._finished = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "source ended" if self._finished else "goes on"
        return f"<TranslationStream: seed {self._generator.seed}, {state}>"

    @property
    def ended(self) -> bool:
        """Whether the model has said, after the source's end, that it is done."""
        return self.said.end_output is not None

    def push(self, pcm: np.ndarray) -> list[TranslatedFrame]:
        """More sound, float32 [n] at 24 kHz; the frames of the translation that it completes.

        NaN and infinite samples count as silence. Raises MoshiError after `finish`, and for what
        is no sound.
        """
        if self._finished:
            raise MoshiError("this stream has ended; open another with translator.stream()")
        self._rest = np.concatenate([self._rest, finite(one_channel(pcm))])
        whole = len(self._rest) // FRAME_SAMPLES * FRAME_SAMPLES
        frames, self._rest = self._rest[:whole], self._rest[whole:]
        made = [self._hear(frame) for frame in frames.reshape(-1, FRAME_SAMPLES)]
        return [frame for frame in made if frame is not None]

    def finish(self) -> Iterator[TranslatedFrame]:
        """The source has ended: the rest of the translation, frame by frame, until the model says
        that it is done; 60 s at most. `push` is refused from the first one on."""
        if self._finished:
            return
        self._finished = True
        last = np.pad(self._rest, (0, -len(self._rest) % FRAME_SAMPLES))
        silence = repeat(np.zeros(FRAME_SAMPLES, np.float32), frames_in(LONGEST_END_S))
        for frame in (*last.reshape(-1, FRAME_SAMPLES), None, *silence):
            self.said.source_ended |= frame is None
            if (made := self._hear(frame)) is not None:
                yield made
            if self.ended:
                break
        self.said.finish()

    def transcript(self) -> Transcript:
        """The words so far, with their times in the translation's sound."""
        said = self.said
        return Transcript(said.tokens, tuple(said.words), said.leading, None)

    def _hear(self, frame: np.ndarray | None) -> TranslatedFrame | None:
        """The speaker's next frame [1920], the first one twice; None: codes that no sound has."""
        config, mimi = self._generator.lm.config, self._mimi
        if frame is None:
            codes = mx.full((config.user_q,), config.card, mx.int32)
        else:
            codes = mimi.encode_lazy(mx.array(frame))[: config.user_q]
        if not self._heard_any:
            first = self._generator.finish(self._generator.submit(codes), mimi.arrays)
            self.said.first(first.text_token)
            self._heard_any = True
        submitted = self._generator.submit(codes)
        complete = submitted.codes()
        pcm = None if complete is None else mimi.decode_lazy(complete)
        others = [*mimi.arrays, *([] if pcm is None else [pcm])]
        step = self._generator.finish(submitted, others)
        text = self.said.take(step)
        if pcm is None or step.codes is None:
            return None
        sound = np.array(pcm)
        return TranslatedFrame(
            sound if self._marker is None else self._marker.frame(sound), text, step.codes
        )
