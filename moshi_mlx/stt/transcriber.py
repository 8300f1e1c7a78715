"""Streaming speech recognition: a language model whose text stream writes down what it hears.

All codebooks come from the user; text token p is drawn from the sound up to frame p - 1, as in
training, so the first frame is given twice and the first token dropped. The text comes `delay_s`
after the sound.
Source: PyTorch `moshi/run_inference.py`; kyutai-labs/delayed-streams-modeling.
Shapes: T frames, K codebooks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SAMPLES
from ..codec.interface import Codec, checked_pcm
from ..config.model_files import weight_paths
from ..config.reading import parse_config, read_config
from ..errors import ConfigError, MoshiError
from ..lm.model import Lm
from ..memory import limit_memory
from ..mimi import Mimi, MimiStream, load_mimi
from ..text.tokenizer import TextTokenizer
from ..weights.adaptation import adaptation_from
from ..weights.loading import lm_from_files, working_dtype
from .words import FRAME_RATE_HZ, Word, WordReader

NO_HEADS = "this model has no heads for pauses; the files of kyutai/stt-1b-en_fr-candle have them"


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

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.leading, *(w.text for w in self.words)) if part)


class Transcriber:
    """A speech to text model. Weights never change; each `stream` holds its own state."""

    def __init__(
        self, lm: Lm, mimi: Mimi, tokenizer: TextTokenizer, delay_s: float, prefix_s: float
    ) -> None:
        self.lm, self.mimi, self.tokenizer = lm, mimi, tokenizer
        self.delay_frames = math.ceil(delay_s * FRAME_RATE_HZ)
        self.prefix_frames = math.ceil(prefix_s * FRAME_RATE_HZ)
        self.offset_s = self.prefix_frames / FRAME_RATE_HZ + delay_s

    @property
    def has_pauses(self) -> bool:
        """Whether the model tells how likely a pause is."""
        return self.lm.config.extra_heads > 0

    def transcribe(self, pcm: np.ndarray) -> Transcript:
        """A recording, float32 [n] at 24 kHz in [-1, 1]. Raises MoshiError for another shape."""
        stream = self.stream()
        stream.push(checked_pcm(pcm))
        stream.finish()
        return stream.transcript()

    def stream(self) -> "TranscriptStream":
        """Speech as it comes, without an end."""
        return TranscriptStream(self)


class TranscriptStream:
    """One speaker's sound in, words out: as soon as they and their times are certain."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._of, config = transcriber, transcriber.lm.config
        self._mimi: MimiStream = transcriber.mimi.stream()
        self._generator = transcriber.lm.generator(
            seed=0, text_temperature=0.0, audio_temperature=0.0
        )
        self._reader = WordReader(
            transcriber.tokenizer,
            transcriber.offset_s,
            config.text_padding_id,
            config.text_end_padding_id,
        )
        self._rest = np.zeros(0, np.float32)
        self._tokens: list[int] = []
        self._pauses: list[np.ndarray] = []
        self._words: list[Word] = []
        self._finished = False

    @property
    def pending(self) -> str:
        """Text of the word that isn't certain yet."""
        return self._reader.pending

    @property
    def pauses(self) -> np.ndarray:
        """float32 [heads]: how likely a pause of 0.5, 1, 2, 3 s has begun, as of the last frame.

        Raises MoshiError where the model has no such heads.
        """
        if not self._of.has_pauses:
            raise MoshiError(NO_HEADS)
        return self._pauses[-1] if self._pauses else np.zeros(self._heads, np.float32)

    @property
    def _heads(self) -> int:
        return self._of.lm.config.extra_heads

    def push(self, pcm: np.ndarray) -> list[Word]:
        """More sound, float32 [n] at 24 kHz; the words that it completes.

        NaN and infinite samples count as silence. Raises MoshiError after `finish`.
        """
        if self._finished:
            raise MoshiError("this stream has ended; open another with transcriber.stream()")
        pcm = np.asarray(pcm)
        if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
            raise MoshiError(
                f"sound is float32 [n] at 24 kHz, mono, not {pcm.dtype} {list(pcm.shape)}"
            )
        pcm = np.where(np.isfinite(pcm), pcm, 0).astype(np.float32)
        self._rest = np.concatenate([self._rest, pcm])
        whole = len(self._rest) // FRAME_SAMPLES * FRAME_SAMPLES
        frames, self._rest = self._rest[:whole], self._rest[whole:]
        return self._hear(frames.reshape(-1, FRAME_SAMPLES))

    def finish(self) -> list[Word]:
        """The sound has ended: the last words, those that only the delay held back."""
        if self._finished:
            return []
        tail = np.zeros(-len(self._rest) % FRAME_SAMPLES, np.float32)
        words = self.push(tail)
        words += self._hear(np.zeros((self._of.delay_frames, FRAME_SAMPLES), np.float32))
        last = self._reader.finish()
        self._words += last
        self._finished = True
        return words + last

    def transcript(self) -> Transcript:
        """Everything so far."""
        return Transcript(
            np.array(self._tokens, np.int32),
            tuple(self._words),
            self._reader.leading,
            np.array(self._pauses) if self._of.has_pauses else None,
        )

    def _hear(self, frames: np.ndarray) -> list[Word]:
        """Whole frames [N, 1920]; at the very start the model's silence goes first."""
        found: list[Word] = []
        if not self._generator.steps and len(frames):
            silence = np.zeros((self._of.prefix_frames, FRAME_SAMPLES), np.float32)
            frames = np.concatenate([silence, frames])
        for frame in frames:
            found += self._step(self._mimi.encode_lazy(mx.array(frame)))
        self._words += found
        return found

    def _step(self, codes: mx.array) -> list[Word]:
        """One frame's lazy codes [K]; one evaluation of codec and language model together."""
        if not self._generator.steps:  # the first frame goes in twice, its first token is dropped
            self._generator.finish(self._generator.submit(codes), self._mimi.arrays)
        submitted = self._generator.submit(codes)
        step = self._generator.finish(submitted, self._mimi.arrays)
        self._tokens.append(step.text_token)
        if step.extra_heads is not None:
            self._pauses.append(step.extra_heads[:, 0])
        return self._reader.push(step.text_token)


def load_stt(
    name_or_folder: str | Path,
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    kv_bits: int = 16,
    memory_limits: bool = True,
    lora: str | Path | None = None,
) -> Transcriber:
    """Load a speech to text model: a folder, or a repository such as "kyutai/stt-1b-en_fr-mlx".

    Options as in `moshi_mlx.load`. Raises ConfigError for a model of another kind, WeightsError,
    DownloadError.
    """
    if memory_limits:
        limit_memory()
    from ..hub import mimi_file, resolve, tokenizer_file

    folder = resolve(name_or_folder, revision, offline)
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    if config.dep_q:
        raise ConfigError(f"{folder} is no speech to text model: it speaks (dep_q is not 0)")
    seconds = stt_seconds(raw, folder)
    adaptation = adaptation_from(lora, "auto", raw, folder, offline)
    paths = weight_paths(folder, raw)
    lm = lm_from_files(paths, config, working_dtype(dtype), kv_bits, adaptation)
    mimi = load_mimi(*mimi_file(folder, raw), config.mimi_codebooks)
    check_mimi(mimi, config.card, folder)
    assert isinstance(mimi, Mimi)
    return Transcriber(lm, mimi, TextTokenizer(tokenizer_file(folder, raw)), *seconds)


def stt_seconds(raw: Mapping[str, Any], folder: Path) -> tuple[float, float]:
    """(delay of the text, silence in front of the sound). Raises ConfigError."""
    given = raw.get("stt_config")
    values = given if isinstance(given, Mapping) else {}

    def seconds(name: str) -> float:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 60:
            raise ConfigError(
                f"{folder / 'config.json'}: stt_config needs {name}, 0 to 60 seconds, "
                f"not {value!r}; is it a speech to text model?"
            )
        return float(value)

    return seconds("audio_delay_seconds"), seconds("audio_silence_prefix_seconds")


def check_mimi(mimi: Codec, card: int, folder: Path) -> None:
    """ConfigError for a Mimi of another clock or other codes than the language model's."""
    if mimi.frame_samples != FRAME_SAMPLES or mimi.bins != card:
        raise ConfigError(
            f"{folder}: its Mimi has frames of {mimi.frame_samples} samples and {mimi.bins} codes, "
            f"the language model needs {FRAME_SAMPLES} and {card}; fetch both again"
        )
