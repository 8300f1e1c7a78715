"""What one speaker's tokens become, on the host: words, pauses, ends of turns.

Tokens of the model come in one a frame. Those of a prompt, and of what is heard before a speaker
once more when the state is begun anew, are no part of the transcript.
"""

import copy
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..audio.levels import VoiceActivityDetector
from ..config.lm_config import NO_INPUT
from ..lm.conversation import Step
from .transcript import Transcript
from .turns import EndOfTurn
from .watch import SpeechWatch
from .words import Word, WordReader

SPEAKING = 0.5  # the shortest pause's head: below, somebody speaks


@dataclass(frozen=True)
class Lead:
    """What a model hears before the speaker. Frames: float32 [N, 1920].

    silence: how many frames of it come first; frames: all of them; pieces: tokens of the prompt in
    the others; delay: steps by which text lags behind, not always whole.
    """

    silence: int
    frames: np.ndarray
    pieces: Sequence[int]
    delay: float

    @property
    def tail(self) -> int:
        """Frames of silence after the speaker that bring the last text."""
        return math.ceil(self.delay)

    @property
    def prompt(self) -> int:
        """Frames of the prompt, none as a rule."""
        return len(self.frames) - self.silence


class Hearing:
    """One speaker. `watch`: when the model's state is begun anew, None for never."""

    def __init__(
        self, reader: WordReader, lead: Lead, heads: int, watch: SpeechWatch | None
    ) -> None:
        self._reader, self.lead, self._heads = reader, lead, heads
        self._speech, self._turns = VoiceActivityDetector(), EndOfTurn()
        self._watch = watch
        self._tokens, self._pauses = array("i"), array("f")
        self.words: list[Word] = []
        self.turn_ended = False
        self._speaks = False
        self._pieces = list(lead.pieces)
        self._left_out = lead.prompt  # tokens still to come that are left out
        self._unread = (
            lead.silence + int(lead.delay) if lead.prompt else 0
        )  # and then read as silence

    def fork(self) -> "Hearing":
        """Another one that goes on from here."""
        twin = copy.copy(self)
        twin._reader, twin._speech = self._reader.fork(), copy.copy(self._speech)
        twin._turns, twin._watch = copy.copy(self._turns), copy.copy(self._watch)
        twin._tokens, twin._pauses = self._tokens[:], self._pauses[:]
        twin.words, twin._pieces = list(self.words), list(self._pieces)
        return twin

    @property
    def piece(self) -> int:
        """The prompt's next piece, -1 when it is over."""
        return self._pieces[0] if self._pieces and self._left_out + self._unread else NO_INPUT

    @property
    def leading(self) -> str:
        return self._reader.leading

    @property
    def pending(self) -> str:
        """Text of the words that aren't certain yet."""
        return self._reader.pending

    @property
    def pending_start_s(self) -> float:
        return self._reader.pending_start_s

    @property
    def due(self) -> bool:
        """Whether the model's state is to be begun anew, since it doesn't write what is said."""
        return self._watch is not None and self._watch.due

    @property
    def pauses(self) -> np.ndarray:
        """float32 [heads] of the last frame, zeros before."""
        last = self._pauses[-self._heads :] if self._heads else []
        return np.array(last or [0.0] * self._heads, np.float32)

    def listen(self, frame: np.ndarray) -> None:
        """The speaker's frame [1920] whose token comes next."""
        self._speaks = self._speech.hears(frame)

    def sampled(self, token: int) -> None:
        """Any token of the model, also one that no frame belongs to."""
        if self.piece == token != NO_INPUT:
            self._pieces.pop(0)

    def take(self, step: Step) -> list[Word]:
        """The step of a frame; the words that it completes."""
        token, reader = step.text_token, self._reader
        self.sampled(token)
        if self._left_out:
            self._left_out -= 1
            return []
        if self._unread:
            self._unread -= 1
            token = reader.pad
        pauses = None if step.extra_heads is None else step.extra_heads[:, 0]
        self._tokens.append(token)
        self._pauses.extend([] if pauses is None else pauses.tolist())
        text = token > reader.pad
        self.turn_ended |= self._turns.push(text, pauses)
        if self._watch is not None:
            self._watch.take(self._speaks and (pauses is None or pauses[0] < SPEAKING), text)
        found = reader.push(token)
        self.words += found
        return found

    def begin_anew(self, most: int) -> int:
        """Forget the last frames, which brought no text; how many, up to `most`, to hear again.

        `lead` is heard before them.
        """
        assert self._watch is not None
        frames = min(self._watch.frames, most)
        self._watch.begun_anew()
        self._reader.back_to(self._reader.steps - frames)
        kept = len(self._tokens) - frames
        del self._tokens[kept:], self._pauses[kept * self._heads :]
        self._pieces, self._speaks = list(self.lead.pieces), False
        self._left_out = len(self.lead.frames)
        self._unread = int(self.lead.delay) if self.lead.prompt else 0
        return frames

    def finish(self) -> list[Word]:
        """Nothing follows: the last words."""
        last = self._reader.finish()
        self.words += last
        return last

    def transcript(self) -> Transcript:
        """Everything so far."""
        pauses = None
        if self._heads:
            pauses = np.array(self._pauses, np.float32).reshape(-1, self._heads)
        tokens = np.array(self._tokens, np.int32)
        return Transcript(tokens, tuple(self.words), self._reader.leading, pauses)
