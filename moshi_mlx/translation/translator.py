"""Hibiki: speech in one language in, speech and text in another out, while it is spoken.

Moshi's loop with the source as the user's stream. Its end is told by a frame of codes that no
sound has; then silence follows until the model says EOS. An EOS before the end of the source is
ignored, and read back as silence. The first frame goes in twice, as in training.
Source: PyTorch `moshi/run_inference.py` and `moshi/models/loaders.py`.
Shapes: K codebooks, T frames.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..clock import FRAME_SECONDS
from ..codec.interface import checked_pcm
from ..errors import ConfigError, MoshiError
from ..lm.generator import LmGenerator
from ..lm.model import Lm
from ..loading.model_folder import LoadOptions, ModelFolder
from ..mimi import Mimi
from ..provenance import Marker
from ..provenance.marker import marker_of
from ..stt import Transcript
from ..text.tokenizer import TextTokenizer
from ..text.word import beginning
from .said import EOS, EPAD, PAD, Said
from .stream import TranslationStream

CONDITION, GOOD, BAD = "description", "very_good", "very_bad"
USUAL_COEF = 3.0  # of guidance, where the model has the condition for it


@dataclass(frozen=True)
class Translation:
    """What was said in the other language.

    tokens: int32 [calls], text tokens as sampled; codes: int32 [K, T], realigned; text: their
    pieces, control tokens included; end_output: the frame that said EOS, None where the limit
    came first; pcm: float32 [T * 1920], marked, where sound was asked for.
    """

    tokens: np.ndarray
    codes: np.ndarray
    text: str
    end_output: int | None
    pcm: np.ndarray | None = None

    def __repr__(self) -> str:
        sound = "no sound" if self.pcm is None else f"{self.codes.shape[1] * FRAME_SECONDS:.2f} s"
        return f"<Translation, {sound}: {beginning(self.text)!r}>"


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
        generator, said = self.generator(cfg_coef, **options), Said(self.tokenizer)
        for i, codes in enumerate(heard):
            if not i:
                said.first(generator.step(codes).text_token)
            said.source_ended = i >= np.shape(source_codes)[1]
            said.take(generator.step(codes))
            if said.end_output is not None:
                break
        return self._translation(said, None)

    def translate(
        self,
        pcm: np.ndarray,
        cfg_coef: float | None = None,
        *,
        mark: Marker | bool | None = True,
        **options: Any,
    ) -> Translation:
        """A recording, float32 [n] at 24 kHz in [-1, 1], to sound and text.

        mark: as in `Moshi.session`. Raises MoshiError for what is no sound.
        """
        stream = self.stream(cfg_coef, mark=mark, **options)
        made = [*stream.push(checked_pcm(pcm)), *stream.finish()]
        return self._translation(
            stream.said, np.concatenate([np.zeros(0, np.float32), *(f.pcm for f in made)])
        )

    def stream(
        self,
        cfg_coef: float | None = None,
        *,
        mark: Marker | bool | None = True,
        keep: bool = True,
        **options: Any,
    ) -> TranslationStream:
        """Speech that is translated while it is spoken, without an end.

        mark: as in `Moshi.session`; keep: False forgets codes once they were given, for hours of
        speech; the rest as in `translate_codes`. Raises MoshiError for a model without a Mimi.
        """
        generator, said = self.generator(cfg_coef, **options), Said(self.tokenizer, keep)
        return TranslationStream(generator, self.mimi.stream(), said, marker_of(mark))

    def transcript(self, made: Translation) -> Transcript:
        """The words of a translation, with their times in its sound."""
        said = Said(self.tokenizer)
        for token in made.tokens[: made.codes.shape[1]].tolist():
            said.read(token)
        said.finish()
        return Transcript(made.tokens, tuple(said.words), said.leading, None)

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

    def _translation(self, said: Said, pcm: np.ndarray | None) -> Translation:
        tokens, frames = said.tokens, len(said.codes)
        pieces = [token for token in tokens[:frames].tolist() if token not in (PAD, EPAD)]
        return Translation(
            tokens,
            np.array(said.codes, np.int32).reshape(frames, -1).T,
            self.tokenizer.pieces(pieces),
            said.end_output,
            pcm,
        )


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
