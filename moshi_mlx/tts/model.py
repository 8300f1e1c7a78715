"""What a speech is made with: a language model, its conditions and guidance, a codec.

Source: PyTorch `moshi/models/tts.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import MoshiError
from ..lm.conversation import Guidance
from ..lm.model import Lm
from ..mimi import Mimi
from ..text.tokenizer import TextTokenizer
from .speech import SpeakOptions
from .step import SpeakingFrame
from .voice_names import VoiceFinder
from .voices import read_voice, speakers_condition

VOICES, CONTROL, GUIDANCE = "speaker_wavs", "control", "cfg"  # names of conditions
USUAL_GUIDANCE, GUIDANCE_MAX = 2.0, 20.0


class SpeakingModel:
    """Language model, codec and tokenizer, and what they are conditioned on. Nothing changes."""

    def __init__(
        self,
        lm: Lm,
        mimi: Mimi | None,
        tokenizer: TextTokenizer,
        delay_steps: int,
        ahead: int,
        model_id: Mapping[str, Any],
        finder: VoiceFinder | None = None,
    ) -> None:
        """finder: of voices by name; without it they are files."""
        self.lm, self.mimi, self.tokenizer = lm, mimi, tokenizer
        self.delay_steps, self.ahead, self.model_id = delay_steps, ahead, model_id
        self._finder = finder
        self._frames: dict[int, SpeakingFrame] = {}

    def __repr__(self) -> str:
        codec = "no Mimi" if self.mimi is None else repr(self.mimi)
        return f"<{type(self).__name__}: {self.lm!r}, {codec}>"

    @property
    def multi_speaker(self) -> bool:
        """Whether voices are given as conditions, and turns marked."""
        return VOICES in self.lm.config.conditioners

    def guidance(
        self, coef: float | None, options: SpeakOptions, prefix_frames: int
    ) -> Guidance | None:
        """What to guide by, for a model that guidance wasn't distilled into. Raises MoshiError.

        The row beside hears no condition, no text unless asked, and no prefix unless asked.
        """
        if GUIDANCE in self.lm.config.conditioners or coef == 1.0:
            return None
        coef = USUAL_GUIDANCE if coef is None else coef
        if not 0 <= coef <= GUIDANCE_MAX:
            raise MoshiError(f"cfg_coef must lie between 0 and {GUIDANCE_MAX:g}, not {coef!r}")
        without = prefix_frames > 0 and options.get("cfg_is_no_prefix", True)
        masked = self.delay_steps + prefix_frames if without else None
        return Guidance(coef, options.get("cfg_is_no_text", True), masked)

    def frame(self, slices: int) -> SpeakingFrame:
        """The graph's model for so many codebooks; made once, with its traces."""
        if slices not in self._frames:
            self._frames[slices] = SpeakingFrame(self.lm, slices)
        return self._frames[slices]

    def conditions(self, voices: Sequence[str | Path], coef: float | None) -> dict[str, Any]:
        """name -> value of what the model is conditioned on. Raises MoshiError, WeightsError."""
        known, found = self.lm.config.conditioners, {}
        if self.multi_speaker:
            dim = known[VOICES].dim
            find = Path if self._finder is None else self._finder.find
            latents = [read_voice(find(voice), dim, self.model_id) for voice in voices]
            found[VOICES] = speakers_condition(latents, dim)
        elif voices:
            raise MoshiError("this model takes no voice files: give the codes of a voice as prefix")
        if CONTROL in known:
            found[CONTROL] = "ok"
        if GUIDANCE in known:
            found[GUIDANCE] = f"{USUAL_GUIDANCE if coef is None else coef:.1f}"
        return found
