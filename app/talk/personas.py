"""Who Moshi is in a talk: the prompt of a persona and a voice, heard once and kept in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.errors import MoshiError
from moshi_mlx.persona.choice import is_recording
from moshi_mlx.persona.prompt import SILENCE, SINE
from moshi_mlx.persona.voice_files import voices_in

from ..events import Settings

if TYPE_CHECKING:
    from moshi_mlx.lm.state.past import LmPrompt
    from moshi_mlx.moshi import Moshi

PERSONAPLEX = "personaplex"
# NVIDIA's own, for a talk about nothing in particular: without any the model rambles.
USUAL = "You enjoy having a good conversation."
LONGEST_TEXT = 8000  # characters
KEPT = 4  # prompts in memory, 50 to 90 MB each of a 7B
CONSENT = (
    "This voice is made from a recording: take your own, or one whose owner has agreed. What it "
    "says is generated, and the model's licence holds for it."
)


@dataclass(frozen=True)
class Persona:
    """A prompt, and what is told of it: lines for the screen."""

    prompt: "LmPrompt"
    notes: tuple[str, ...]


class Personas:
    """Of one loaded model; used on its thread."""

    def __init__(self, moshi: "Moshi") -> None:
        self._moshi = moshi
        self._made: dict[tuple, LmPrompt] = {}
        self._told = False  # of consent: once is enough
        # The published silence and sine are codes of Kyutai's Mimi; another's model takes none.
        fits = moshi.config.card > max(*SILENCE, *SINE)
        self.taken = moshi.config.model_type == PERSONAPLEX and fits
        self._voices: tuple[str, ...] | None = None

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the model's own. Raises WeightsError for an archive that is none."""
        if self._voices is None:
            self._voices = tuple(voices_in(self._moshi.folder)) if self.taken else ()
        return self._voices

    def of(self, settings: Settings) -> Persona | None:
        """What a conversation is to begin with; None for a model that takes none, unasked.

        Raises MoshiError for a persona that is too long or that this model doesn't take, and for
        voices that can't be had.
        """
        asked = (settings.persona, settings.voice) != (None, None)
        if not (asked or self.taken):
            return None
        text = USUAL if settings.persona is None else settings.persona
        if len(text) > LONGEST_TEXT:
            raise MoshiError(f"a persona of {len(text)} characters: {LONGEST_TEXT} at the most")
        prompt = self._prompt(text, settings.voice, settings.adapter)
        return Persona(prompt, self._notes(text, settings.voice, prompt))

    def _prompt(self, text: str, voice: str | None, adapter: str | None) -> "LmPrompt":
        path = Path(voice).expanduser() if voice else None
        changed = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
        key = (text, voice, changed, adapter)
        made = self._made.pop(key, None)
        prompt = made or self._moshi.prompt(text, voice, adapter=adapter)
        self._made[key] = prompt  # the last used is the last to go
        if len(self._made) > KEPT:
            self._made.pop(next(iter(self._made)))
        context = self._moshi.config.transformer.context or 0
        if prompt.frames > context // 2:
            raise MoshiError(
                f"this persona takes {prompt.frames} of the {context} steps that the model "
                "remembers: shorten the text or the voice"
            )
        return prompt

    def _notes(self, text: str, voice: str | None, prompt: "LmPrompt") -> tuple[str, ...]:
        told = " ".join(text.split()) or "no text"
        told = told if len(told) <= 80 else f"{told[:79]}…"
        by = f", voice {Path(voice).stem}" if voice else ""
        seconds = prompt.frames * FRAME_SECONDS
        notes = [f"persona: {told}{by} ({seconds:.0f} s of what the model remembers)"]
        if voice and is_recording(voice) and not self._told:
            self._told = True
            notes.append(CONSENT)
        return tuple(notes)


class PromptOptions(TypedDict, total=False):
    """Those of `Moshi.session` that a persona decides about."""

    prompt: "LmPrompt"
    keep_prompt: bool


def options_of(persona: Persona | None, settings: Settings) -> PromptOptions:
    """What `Moshi.session` is given. Raises MoshiError where there is nothing to keep."""
    if persona is None:
        if settings.keep_prompt:
            raise MoshiError("--keep-prompt keeps a persona's prompt, and this model takes none")
        return {}
    return {"prompt": persona.prompt, "keep_prompt": settings.keep_prompt}
