"""Streaming speech synthesis: text in word by word, sound out 16 steps later.

The text stream leads by `delay_steps`: a code drawn at step s for codebook k counts from step
delay_k + delay_steps on, and is no sound before. A step is 80 ms.
Source: PyTorch `moshi/models/tts.py`, `moshi/run_tts.py`.
Shapes: K codebooks, F frames.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SECONDS
from ..config.lm_config import NO_INPUT
from ..errors import MoshiError
from ..lm.compiled_step import Held, HostFrame
from ..lm.conversation import Guidance, check_seed
from ..lm.delay_line import LATER, DelayLine
from ..lm.model import Lm
from ..lm.sampling import override, samplers
from ..lm.step_inputs import Layout
from ..mimi import Mimi
from ..text.tokenizer import TextTokenizer
from .machine import Pace, TextMachine
from .script import ScriptEntry, ScriptReader
from .step import SpeakingFrame
from .voices import read_voice, speakers_condition

VOICES, CONTROL, GUIDANCE = "speaker_wavs", "control", "cfg"  # names of conditions
USUAL_GUIDANCE, GUIDANCE_MAX = 2.0, 20.0
STEPS_MAX = 30_000  # 40 minutes; a model that never comes to its end stops there


class SpeakOptions(TypedDict, total=False):
    """How a text is spoken.

    voices: files of one or two speakers; cfg_coef: guidance (None: 2); n_q: codebooks, fewer are
    quicker; temperatures: of text and audio, 0 is greedy; padding_between: silent steps between
    words, at least; padding_bonus: above 0 slower, below faster; max_padding, initial_padding,
    final_padding: silent steps between words at most, before the first word, after the last;
    prefix: codes [K, F] of a voice to go on from; cfg_is_no_text, cfg_is_no_prefix: whether the row
    that is guided away from hears neither text nor prefix (where guidance isn't distilled).
    """

    voices: Sequence[str | Path]
    cfg_coef: float | None
    n_q: int | None
    text_temperature: float | None
    audio_temperature: float | None
    padding_between: int
    padding_bonus: float
    max_padding: int
    initial_padding: int
    final_padding: int
    prefix: np.ndarray | None
    seed: int | None
    cfg_is_no_text: bool
    cfg_is_no_prefix: bool


@dataclass(frozen=True)
class Speech:
    """What was spoken.

    fed: int32 [steps], the text stream (both streams muxed); codes: int32 [K, frames], realigned,
    -1 where there is no sound yet; words: (word, step of its start); end_step: where the model had
    said its last word, None if it never came to that; pcm: float32 [n] at 24 kHz, None for a model
    without a Mimi.
    """

    fed: np.ndarray
    codes: np.ndarray
    words: tuple[tuple[str, int], ...]
    end_step: int | None
    pcm: np.ndarray | None = None

    @property
    def word_times(self) -> list[tuple[str, float]]:
        """Each word and the second of its start in the sound."""
        return [(word, step * FRAME_SECONDS) for word, step in self.words]


@dataclass
class _Made:
    """What a stream has brought so far."""

    fed: list[int] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    pcm: list[np.ndarray] = field(default_factory=list)


class Speaker:
    """A text to speech model. Weights never change; each `stream` holds its own state."""

    def __init__(
        self,
        lm: Lm,
        mimi: Mimi | None,
        tokenizer: TextTokenizer,
        delay_steps: int,
        ahead: int,
        model_id: Mapping[str, Any],
    ) -> None:
        self.lm, self.mimi, self.tokenizer = lm, mimi, tokenizer
        self.delay_steps, self.ahead, self.model_id = delay_steps, ahead, model_id
        self._frames: dict[int, SpeakingFrame] = {}

    def __repr__(self) -> str:
        codec = "no Mimi" if self.mimi is None else repr(self.mimi)
        return f"<Speaker: {self.lm!r}, {codec}>"

    @property
    def multi_speaker(self) -> bool:
        """Whether voices are given as conditions, and turns marked."""
        return VOICES in self.lm.config.conditioners

    def speak(
        self,
        turns: Sequence[str],
        entries: Iterable[Mapping[str, Any]] | None = None,
        **options: Unpack[SpeakOptions],
    ) -> Speech:
        """A whole script: turns of the first and the second speaker, one after the other.

        entries: given in place of turns (tokens, text, padding of each). Raises MoshiError for a
        text without words, breaks that can't be read, and voices that don't fit.
        """
        if isinstance(turns, str):
            turns = [turns]
        stream = self.stream(**options)
        if entries is not None:
            given = [ScriptEntry(tuple(e["tokens"]), e["text"], e["padding"]) for e in entries]
            stream.append(given)
        else:
            for i, text in enumerate(turns):
                stream.say(text, i % 2)
        if not stream.has_words:
            raise MoshiError("there is nothing to say: the text has no words")
        stream.end()
        for _ in stream.frames():
            pass
        return stream.speech()

    def stream(self, **options: Unpack[SpeakOptions]) -> "SpeechStream":
        """Text that arrives bit by bit."""
        return SpeechStream(self, **options)

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
            latents = [read_voice(voice, dim, self.model_id) for voice in voices]
            found[VOICES] = speakers_condition(latents, dim)
        elif voices:
            raise MoshiError("this model takes no voice files: give the codes of a voice as prefix")
        if CONTROL in known:
            found[CONTROL] = "ok"
        if GUIDANCE in known:
            found[GUIDANCE] = f"{USUAL_GUIDANCE if coef is None else coef:.1f}"
        return found


class SpeechStream:
    """One speech: text goes in as it comes, frames come out as soon as nothing can change them."""

    def __init__(self, speaker: Speaker, **options: Unpack[SpeakOptions]) -> None:
        self._speaker, lm = speaker, speaker.lm
        config = lm.config
        self.n_q = checked_n_q(options.get("n_q"), config.dep_q)
        self._prefix = checked_prefix(options.get("prefix"), config.dep_q, config.card)
        self._final_padding = options.get("final_padding", 4)
        coef = options.get("cfg_coef")
        self._guidance = speaker.guidance(coef, options, self._prefix.shape[1])
        self._layout = Layout(
            1, self._guidance is not None, not (self._guidance and self._guidance.no_text)
        )
        names = ("text_temperature", "audio_temperature")
        sampling = override(config.sampling, {name: options.get(name) for name in names})
        self.draws, self.seed = samplers(sampling), check_seed(options.get("seed"))
        self._held = Held(
            scales=mx.array(
                [
                    [sampling.text_temperature],
                    [sampling.audio_temperature],
                    [1.0 if self._guidance is None else self._guidance.coef],
                    [float(options.get("padding_bonus", 0.0))],
                ]
            ),
            given=lm.conditions(
                speaker.conditions(options.get("voices", ()), coef), self._layout.guided
            ),
            buffers=lm.new_buffers(rows=self._layout.rows),
        )
        mx.eval(self._held.given.arrays())  # a voice's keys and values: made once
        pace = Pace(options.get("max_padding", 8), options.get("initial_padding", 2))
        self._machine = TextMachine(config.text_card, speaker.ahead, pace)
        self._machine.skip(self._prefix.shape[1])
        self._script = ScriptReader(
            speaker.tokenizer.encode, speaker.multi_speaker, options.get("padding_between", 1)
        )
        self._line, self._made = DelayLine(config), _Made()
        self._codec = None if speaker.mimi is None else speaker.mimi.stream()
        self._complete = False

    @property
    def has_words(self) -> bool:
        """Whether anything was given that can be said."""
        return self._machine.has_words

    @property
    def first_sound(self) -> int:
        """The output frame that sound begins with; a prefix is not part of it."""
        return self._speaker.delay_steps + self._prefix.shape[1]

    def say(self, text: str, speaker: int = 0) -> None:
        """More text of one of two speakers. Raises MoshiError for breaks that can't be read."""
        if speaker not in (0, 1):
            raise MoshiError(f"there are speakers 0 and 1, no {speaker}")
        self.append(self._script.turn(text, speaker))

    def append(self, entries: Iterable[ScriptEntry]) -> None:
        """More text as entries. Raises MoshiError after `end`."""
        if self._complete:
            raise MoshiError("this speech was ended; open another with speaker.stream()")
        self._machine.append(entries)

    def end(self) -> None:
        """No more text will come."""
        self._complete = True

    def frames(self) -> Iterator[np.ndarray | None]:
        """All frames that can be spoken now: float32 [1920], None before sound begins.

        Without a Mimi every item is None. Ends where more text is needed, and at the end.
        """
        while not self._ended() and self._ready():
            yield self._step()

    def speech(self) -> Speech:
        """Everything so far."""
        made = self._made
        codes = np.array(made.codes, np.int32).reshape(len(made.codes), -1).T[: self.n_q]
        pcm = None
        if self._codec is not None:
            pcm = np.concatenate([*made.pcm, np.zeros(0, np.float32)])
        machine = self._machine
        words = tuple(machine.words)
        return Speech(np.array(made.fed, np.int32), codes, words, machine.end_step, pcm)

    def _ready(self) -> bool:
        in_prefix = self._line.step < self._prefix.shape[1]
        return in_prefix or self._machine.ready(self._complete)

    def _ended(self) -> bool:
        end, step = self._machine.end_step, self._line.step
        if end is None:
            return step >= STEPS_MAX
        return step >= end + self._speaker.delay_steps + self._final_padding

    def _step(self) -> np.ndarray | None:
        """One step: text machine, graph, one read, delay line."""
        step, silent = self._line.step, self._line.step < self.first_sound
        in_prefix = step < self._prefix.shape[1]
        answers = None if in_prefix else self._machine.answers()
        forced = (NO_INPUT, NO_INPUT) if answers is None else (answers.if_word, answers.if_pad)
        given = self._line.inputs(np.zeros(0, np.int32))
        beside = [] if self._guidance is None else [self._guidance.negative(given, self._line)]
        frame = HostFrame(
            tokens=np.stack([given, *beside]),
            user=None,
            steps=np.array([step]),
            seeds=np.array([self.seed]),
            forced_text=np.array(forced),
        )
        model = self._speaker.frame(0 if silent else self.n_q)
        drawn, _ = model.functions.of(self.draws, self._layout)(frame, self._held)
        pcm = None if silent else self._sound(drawn)
        sound = [] if self._codec is None or pcm is None else [pcm, *self._codec.arrays]
        mx.eval(drawn, sound)  # the one wait of a frame
        tokens = np.array(drawn)
        fed = NO_INPUT if in_prefix else self._machine.advance(int(tokens[0]))
        complete = self._line.outputs(self._own(step, fed, tokens[1:]))
        self._made.fed.append(fed)
        if complete is not None:
            self._made.codes.append(complete[1:])
        if pcm is None:
            return None
        self._made.pcm.append(np.clip(np.array(pcm), -1.0, 1.0))
        return self._made.pcm[-1]

    def _sound(self, drawn: mx.array) -> mx.array | None:
        """Lazy samples [1920] of the frame that this step completes, where it is sound."""
        index = self._line.step - self._speaker.lm.config.max_delay
        known = self._line.upcoming()
        if self._codec is None or known is None or index < self.first_sound:
            return None
        codes = mx.array(known[1 : 1 + self.n_q])
        return self._codec.decode_lazy(mx.where(codes == LATER, drawn[1:], codes))

    def _own(self, step: int, fed: int, codes: np.ndarray) -> np.ndarray:
        """What the delay line takes [1 + K]: no sound before its time, the prefix in its place."""
        K = self._speaker.lm.config.dep_q
        own = np.full(1 + K, NO_INPUT, np.int64)
        own[0] = fed
        own[1 : 1 + len(codes)] = codes
        behind = step - self._line.delays[1 : 1 + K] - self._speaker.delay_steps
        own[1:][behind < 0] = NO_INPUT
        given = (behind >= 0) & (behind < self._prefix.shape[1])
        own[1:][given] = self._prefix[np.flatnonzero(given), behind[given]]
        return own


def checked_n_q(n_q: int | None, most: int) -> int:
    """How many codebooks to speak with. Raises MoshiError."""
    if n_q is None:
        return most
    if not 1 <= n_q <= most:
        raise MoshiError(f"this model speaks with 1 to {most} codebooks, not {n_q}")
    return n_q


def checked_prefix(prefix: np.ndarray | None, K: int, card: int) -> np.ndarray:
    """Codes [K, F] of a voice, [K, 0] for none. Raises MoshiError."""
    if prefix is None:
        return np.zeros((K, 0), np.int32)
    codes = np.asarray(prefix)
    if codes.ndim != 2 or len(codes) != K or not np.issubdtype(codes.dtype, np.integer):
        raise MoshiError(f"a prefix is codes, int [{K}, frames], not {list(codes.shape)}")
    if codes.size and not 0 <= codes.min() <= codes.max() < card:
        raise MoshiError(f"the codes of a prefix must lie between 0 and {card - 1}")
    return codes
