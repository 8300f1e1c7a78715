"""Speech as it comes, without an end: sound in, words out as soon as they are certain.

Text token p is drawn from the sound up to frame p - 1, as in training, so a state's first frame is
given twice and the first token dropped.
Source: PyTorch `moshi/run_inference.py`. Shapes: N frames, K codebooks.
"""

import copy
from collections import deque

import mlx.core as mx
import numpy as np

from ..audio.finite import finite
from ..clock import FRAME_SAMPLES, FRAME_SECONDS
from ..errors import MoshiError
from ..lm.compiled_step import FrameModel
from ..lm.conversation import Step
from ..lm.generator import LmGenerator
from ..mimi import Mimi
from .hearing import Hearing
from .transcript import Transcript
from .watch import REPLAY_FRAMES
from .words import Word

NO_HEADS = "this model has no heads for pauses; the files of kyutai/stt-1b-en_fr-candle have them"


class TranscriptStream:
    """One speaker's sound in, words out. Made by `Transcriber.stream`."""

    def __init__(self, model: FrameModel, mimi: Mimi, hearing: Hearing) -> None:
        self._model, self._mimi, self._hearing = model, mimi.stream(), hearing
        self._generator = self._fresh()
        self._rest = np.zeros(0, np.float32)
        self._lead: list[mx.array] = []  # codes that a fresh state hears before the speaker's
        self._kept: deque[mx.array] = deque(maxlen=REPLAY_FRAMES)  # the speaker's last codes
        self._frames = 0
        self._finished = False

    def __repr__(self) -> str:
        state = ", finished" if self._finished else ""
        return f"<TranscriptStream: {self.heard_s:.2f} s heard{state}>"

    def fork(self) -> "TranscriptStream":
        """Another stream that goes on from here; this one doesn't notice. It costs a copy of the
        model's caches."""
        twin = copy.copy(self)
        twin._mimi, twin._hearing = self._mimi.fork(), self._hearing.fork()
        twin._generator, twin._kept = self._generator.fork(), self._kept.copy()
        return twin

    @property
    def leading(self) -> str:
        """Text before the first word's start, which has no time."""
        return self._hearing.leading

    @property
    def pending(self) -> str:
        """Text of the word that isn't certain yet."""
        return self._hearing.pending

    @property
    def pending_start_s(self) -> float:
        """When that word began, in seconds of the sound."""
        return self._hearing.pending_start_s

    @property
    def heard_s(self) -> float:
        """Seconds of sound that the model has heard."""
        return self._frames * FRAME_SECONDS

    @property
    def turn_ended(self) -> bool:
        """Whether the last `push` saw the speaker end: once for each pause after words.

        By the model's heads; by 2 s without text where it has none.
        """
        return self._hearing.turn_ended

    @property
    def pauses(self) -> np.ndarray:
        """float32 [heads]: how likely a pause of 0.5, 1, 2, 3 s has begun, as of the last frame.

        Raises MoshiError where the model has no such heads.
        """
        if not self._model.config.extra_heads:
            raise MoshiError(NO_HEADS)
        return self._hearing.pauses

    def push(self, pcm: np.ndarray) -> list[Word]:
        """More sound, float32 [n] at 24 kHz; the words that it completes, each once.

        NaN and infinite samples count as silence. Raises MoshiError after `finish`.
        """
        if self._finished:
            raise MoshiError("this stream has ended; open another with transcriber.stream()")
        pcm = np.asarray(pcm)
        if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
            raise MoshiError(
                f"sound is float32 [n] at 24 kHz, mono, not {pcm.dtype} {list(pcm.shape)}"
            )
        self._hearing.turn_ended = False
        self._rest = np.concatenate([self._rest, finite(pcm.astype(np.float32))])
        whole = len(self._rest) // FRAME_SAMPLES * FRAME_SAMPLES
        frames, self._rest = self._rest[:whole], self._rest[whole:]
        return self._hear(frames.reshape(-1, FRAME_SAMPLES))

    def flush(self) -> list[Word]:
        """What `push` hasn't given yet of the sound so far, as if it ended here.

        It costs the model's delay in silent frames, as fast as the machine can. The stream itself
        doesn't notice: later times don't move, and `push` gives these words again when they are
        certain, with what follows heard.
        """
        return self.fork().finish()

    def finish(self) -> list[Word]:
        """The sound has ended: the last words, those that only the delay held back."""
        if self._finished:
            return []
        tail = np.zeros(-len(self._rest) % FRAME_SAMPLES, np.float32)
        words = self.push(tail)
        words += self._hear(np.zeros((self._hearing.lead.tail, FRAME_SAMPLES), np.float32))
        self._finished = True
        return words + self._hearing.finish()

    def transcript(self) -> Transcript:
        """Everything so far."""
        return self._hearing.transcript()

    def _fresh(self) -> LmGenerator:
        return LmGenerator(self._model, seed=0, text_temperature=0.0, audio_temperature=0.0)

    def _hear(self, frames: np.ndarray) -> list[Word]:
        """The speaker's frames [N, 1920]; what comes before them goes first."""
        found: list[Word] = []
        if not self._generator.steps and len(frames):
            lead = [self._mimi.encode_lazy(mx.array(frame)) for frame in self._hearing.lead.frames]
            for codes in lead:
                found += self._step(codes)
            self._lead = lead
        for frame in frames:
            self._hearing.listen(frame)
            codes = self._mimi.encode_lazy(mx.array(frame))
            found += self._step(codes)
            self._kept.append(codes)
            self._frames += 1
            if self._hearing.due:
                found += self._begin_anew()
        return found

    def _begin_anew(self) -> list[Word]:
        """A fresh state hears the last frames again."""
        again = self._hearing.begin_anew(len(self._kept))
        self._generator = self._fresh()
        replay = list(self._kept)[len(self._kept) - again :]
        return [word for codes in [*self._lead, *replay] for word in self._step(codes)]

    def _step(self, codes: mx.array) -> list[Word]:
        """One frame's lazy codes [K]; the words that it completes."""
        if not self._generator.steps:  # a state's first frame goes in twice
            self._hearing.sampled(self._evaluated(codes).text_token)
        return self._hearing.take(self._evaluated(codes))

    def _evaluated(self, codes: mx.array) -> Step:
        """One evaluation of codec and language model together."""
        submitted = self._generator.submit(codes, told=self._hearing.piece)
        return self._generator.finish(submitted, self._mimi.arrays)
