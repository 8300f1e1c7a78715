"""What a frame is of each kind of model: one converses, one writes down, one speaks a text.

A translation's frame is a conversation's: the same loop, the source in the place of the user.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from moshi_mlx.codec.interface import Codec
from moshi_mlx.lm.generator import LmGenerator
from moshi_mlx.lm.model import Lm
from moshi_mlx.mimi import Mimi, MimiStream
from moshi_mlx.moshi import Moshi, Session
from moshi_mlx.stt import Transcriber
from moshi_mlx.tts import Speaker
from moshi_mlx.tts.script import ScriptEntry
from moshi_mlx.tts.stream import SpeechStream

from .watching import Stopwatch, WatchedPath

GREEDY: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}
WORD = ScriptEntry((9, 10), "word", 0)  # which word it is doesn't matter
WORDS_AHEAD = 16
FIRST_SOUND_FRAMES = 4  # of a speech, looked over: the first ones with sound


class Frames(Protocol):
    """An open conversation, whatever is said in it."""

    def step(self, pcm: np.ndarray) -> object:
        """80 ms, float32 [1920]."""
        ...


class Measured(Protocol):
    """A model that is loaded."""

    @property
    def lm(self) -> Lm: ...

    @property
    def codec(self) -> Codec: ...

    @property
    def conditions(self) -> Mapping[str, Any] | None:
        """Of a conversation with its language model alone."""
        ...

    @property
    def answers(self) -> bool:
        """Whether it answers somebody, who waits for it."""
        ...

    def warm_up(self) -> None:
        """Trace every shape that its frames need."""
        ...

    def open(self, watch: Stopwatch) -> AbstractContextManager[Frames]:
        """A conversation whose frames are looked into while `watch` is on."""
        ...


class Converses:
    """Moshi's kind: Hibiki's too."""

    conditions = None
    answers = True

    def __init__(self, moshi: Moshi) -> None:
        self._moshi, self.lm, self.codec = moshi, moshi.lm, moshi.codec

    def warm_up(self) -> None:
        self._moshi.warm_up()

    def open(self, watch: Stopwatch) -> Session:
        return Session(self._moshi, seed=0, make_path=partial(WatchedPath, watch))


class Listens:
    """Speech to text: encoder and language model, in one evaluation."""

    conditions = None
    answers = False

    def __init__(self, stt: Transcriber) -> None:
        self.lm, self.codec = stt.lm, stt.mimi

    def warm_up(self) -> None:
        LmGenerator(self.lm, seed=0, **GREEDY).warm_up(user_later=True)
        with self.open(Stopwatch()) as session:
            for _ in range(2):
                session.step(np.zeros(self.codec.frame_samples, np.float32))

    @contextmanager
    def open(self, watch: Stopwatch) -> Iterator[Frames]:
        yield Hearer(LmGenerator(self.lm, seed=0, **GREEDY), self.codec.stream(), watch)


class Hearer:
    """A recording that is written down, as `TranscriptStream` does it."""

    def __init__(self, generator: LmGenerator, stream: MimiStream, watch: Stopwatch) -> None:
        self._generator, self._stream, self._watch = generator, stream, watch

    def step(self, pcm: np.ndarray) -> object:
        codes = self._stream.encode_lazy(mx.array(pcm))
        if self._watch.on:
            mx.eval(codes, self._stream.arrays)
            self._watch.lap("encode")
        step = self._generator.finish(self._generator.submit(codes), self._stream.arrays)
        if self._watch.on:
            self._watch.lap("lm")
        return step


class Speaks:
    """Text to speech: language model and decoder, in one evaluation; frames that have sound."""

    answers = False

    def __init__(self, tts: Speaker) -> None:
        assert tts.mimi is not None
        self._tts, self.lm, self.codec = tts, tts.lm, tts.mimi
        self.conditions = tts.conditions((), None) or None

    def warm_up(self) -> None:
        self._tts.stream(keep=False, seed=0).warm_up()
        with self.open(Stopwatch()) as session:
            session.step(np.zeros(self.codec.frame_samples, np.float32))

    @contextmanager
    def open(self, watch: Stopwatch) -> Iterator[Frames]:
        codec = TimedDecoder(self.codec, watch)
        stream = SpeechStream(self._tts, keep=False, codec=codec, seed=0)
        speech = EndlessSpeech(stream)
        for _ in range(stream.first_sound + self.lm.config.max_delay + FIRST_SOUND_FRAMES):
            speech.step(np.zeros(0, np.float32))
        yield speech


class TimedDecoder(MimiStream):
    """A stream of the codec that waits for its codes first, and then for its sound."""

    def __init__(self, mimi: Mimi, watch: Stopwatch) -> None:
        super().__init__(mimi)
        self._watch = watch

    def decode_lazy(self, codes: mx.array) -> mx.array:
        if not self._watch.on:
            return super().decode_lazy(codes)
        mx.eval(codes)
        self._watch.lap("lm")
        pcm = super().decode_lazy(codes)
        mx.eval(pcm, self.arrays)
        self._watch.lap("decode")
        return pcm


class EndlessSpeech:
    """A speech that always has more to say."""

    def __init__(self, stream: SpeechStream) -> None:
        self._stream = stream

    def step(self, pcm: np.ndarray) -> object:
        """The next frame; nobody is heard."""
        if self._stream.waiting < WORDS_AHEAD:
            self._stream.append([WORD] * WORDS_AHEAD)
        return next(self._stream.frames())
