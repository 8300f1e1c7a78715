"""Hibiki: speech in one language in, speech and text in another out, while it is spoken.

Moshi's loop with the source as the user's stream. Its end is told by a frame of codes that no
sound has; then silence follows until the model says EOS. An EOS before the end of the source is
ignored, and read back as silence. The first frame goes in twice, as in training.
Source: PyTorch `moshi/run_inference.py` and `moshi/models/loaders.py`.
Shapes: K codebooks, T frames.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SAMPLES
from ..codec.interface import checked_pcm
from ..errors import ConfigError, MoshiError
from ..lm.generator import LmGenerator, Step
from ..lm.model import Lm
from ..loading.model_folder import LoadOptions, ModelFolder
from ..mimi import Mimi, MimiStream
from ..stt import Transcript
from ..stt.words import WordReader
from ..text.tokenizer import TextTokenizer

EOS, PAD, EPAD = 2, 3, 0
CONDITION, GOOD, BAD = "description", "very_good", "very_bad"
USUAL_COEF = 3.0  # of guidance, where the model has the condition for it
LONGEST_END_S = 60.0  # that the model may go on for after the source has ended
FRAME_RATE_HZ = 12.5


@dataclass(frozen=True)
class Translation:
    """What was said in the other language.

    tokens: int32 [calls], text tokens as sampled; codes: int32 [K, T], realigned; text: their
    pieces, control tokens included; end_output: the frame that said EOS, None where the limit
    came first; pcm: float32 [T * 1920] where sound was asked for.
    """

    tokens: np.ndarray
    codes: np.ndarray
    text: str
    end_output: int | None
    pcm: np.ndarray | None = None


class Translator:
    """A translation model. Weights never change."""

    def __init__(self, lm: Lm, mimi: Mimi | None, tokenizer: TextTokenizer) -> None:
        self.lm, self._mimi, self.tokenizer = lm, mimi, tokenizer
        lm.text_emb.copy_row(PAD, EOS)  # an early EOS is read back as silence

    def __repr__(self) -> str:
        codec = "no Mimi" if self._mimi is None else repr(self._mimi)
        return f"<Translator: {self.lm!r}, {codec}>"

    @property
    def guided(self) -> bool:
        """Whether the model knows how good its training material was, and can be guided."""
        return CONDITION in self.lm.config.conditioners

    @property
    def mimi(self) -> Mimi:
        """The codec. Raises MoshiError where the model was loaded without."""
        if self._mimi is None:
            raise MoshiError("this model has no Mimi beside it: it translates codes, not sound")
        return self._mimi

    def translate_codes(
        self,
        source_codes: np.ndarray,
        silence_codes: np.ndarray,
        cfg_coef: float | None = None,
        **options: Any,
    ) -> Translation:
        """Codes of the source, int [K, T], and of the silence after it, whose length is the limit.

        cfg_coef: how strongly to guide, 1 not at all, None as usual for the model; options as in
        LmGenerator. Raises MoshiError for codes of another shape.
        """
        K = self.lm.config.user_q
        for codes in (source_codes, silence_codes):
            if np.ndim(codes) != 2 or len(codes) != K:
                raise MoshiError(f"codes must be [{K}, frames], not {list(np.shape(codes))}")
        end = np.full((K, 1), self.lm.config.card)
        heard = chain(np.transpose(source_codes), end.T, np.transpose(silence_codes))
        run = _Run(self.generator(cfg_coef, **options), np.shape(source_codes)[1])
        for codes in heard:
            step = run.hear(codes)
            if step is not None and run.take(step):
                break
        return self._translation(run, None)

    def translate(
        self, pcm: np.ndarray, cfg_coef: float | None = None, **options: Any
    ) -> Translation:
        """A recording, float32 [n] at 24 kHz in [-1, 1], to sound and text."""
        pcm = checked_pcm(pcm)
        frames = np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
        run = _Run(self.generator(cfg_coef, **options), len(frames))
        said = list(run.speak(self.mimi.stream(), frames, self.lm.config.card))
        return self._translation(run, np.concatenate(said) if said else np.zeros(0, np.float32))

    def transcript(self, made: Translation) -> Transcript:
        """The words of a translation, with their times in its sound."""
        reader = WordReader(self.tokenizer, 0.0, PAD, EPAD)
        said = made.tokens[: made.codes.shape[1]].tolist()
        words = [word for token in said for word in reader.push(token if token != EOS else PAD)]
        return Transcript(made.tokens, (*words, *reader.finish()), reader.leading, None)

    def generator(self, cfg_coef: float | None = None, **options: Any) -> LmGenerator:
        """A conversation, conditioned as the model was trained. Raises MoshiError."""
        coef = (USUAL_COEF if self.guided else 1.0) if cfg_coef is None else cfg_coef
        if coef != 1.0 and not self.guided:
            raise MoshiError("this model can't be guided: leave cfg_coef out, or give 1")
        if self.guided:
            options["conditions"] = {CONDITION: GOOD}
        if coef != 1.0:
            options |= {"cfg_coef": coef, "negatives": {CONDITION: BAD}}
        return self.lm.generator(**options)

    def _translation(self, run: "_Run", pcm: np.ndarray | None) -> Translation:
        return Translation(
            np.array(run.tokens, np.int32),
            np.array(run.codes, np.int32).reshape(len(run.codes), -1).T,
            self.tokenizer.pieces([t for t in run.said if t not in (PAD, EPAD)]),
            run.end_output,
            pcm,
        )


class _Run:
    """One translation as far as it has come."""

    def __init__(self, generator: LmGenerator, source_frames: int) -> None:
        self._generator, self._source_frames = generator, source_frames
        self._heard = 0
        self.tokens: list[int] = []  # as sampled
        self.said: list[int] = []  # realigned with the codes
        self.codes: list[np.ndarray] = []
        self.end_output: int | None = None

    def hear(self, codes: np.ndarray) -> Step:
        """One frame of the source, the first one twice."""
        if not self._heard:
            self.tokens.append(self._generator.step(codes).text_token)
        self._heard += 1
        return self._generator.step(codes)

    def take(self, step: Step) -> bool:
        """Keep what a step brought; True at the EOS that ends the translation."""
        self.tokens.append(step.text_token)
        if step.codes is None:
            return False
        text = self.tokens[len(self.codes)]
        self.said.append(text)
        self.codes.append(step.codes)
        if text == EOS and self._heard > self._source_frames:
            self.end_output = len(self.codes) - 1
        return self.end_output is not None

    def speak(self, mimi: MimiStream, frames: np.ndarray, card: int) -> Iterator[np.ndarray]:
        """Sound in, sound out, float32 [1920] each: codec and model in one evaluation a frame."""
        user = self._generator.lm.config.user_q
        end = mx.full((user,), card, mx.int32)
        silence = (np.zeros(FRAME_SAMPLES, np.float32) for _ in range(_end_frames()))
        heard: Iterable[np.ndarray | None] = chain(frames, [None], silence)
        for frame in heard:
            codes = end if frame is None else mimi.encode_lazy(mx.array(frame))[:user]
            if not self._heard:
                first = self._generator.finish(self._generator.submit(codes), mimi.arrays)
                self.tokens.append(first.text_token)
            self._heard += 1
            submitted = self._generator.submit(codes)
            complete = submitted.codes()
            pcm = None if complete is None else mimi.decode_lazy(complete)
            others = [*mimi.arrays, *([] if pcm is None else [pcm])]
            ended = self.take(self._generator.finish(submitted, others))
            if pcm is not None:
                yield np.array(pcm)
            if ended:
                return


def _end_frames() -> int:
    return int(LONGEST_END_S * FRAME_RATE_HZ)


def load_translator(
    name_or_folder: str | Path, dtype: str | None = None, **options: Unpack[LoadOptions]
) -> Translator:
    """Load Hibiki: a folder, or a repository such as "kyutai/hibiki-2b-mlx-bf16".

    Options as in `moshi_mlx.load`. A folder without a Mimi translates codes only. Raises
    ConfigError for a model of another kind, WeightsError, DownloadError.
    """
    folder = ModelFolder(name_or_folder, dtype, **options)
    if not folder.config.dep_q or not folder.config.user_q:
        raise ConfigError(f"{folder.path} is no translation model: it must both listen and speak")
    parts = folder.parts()
    return Translator(parts.lm, parts.mimi, parts.tokenizer)
