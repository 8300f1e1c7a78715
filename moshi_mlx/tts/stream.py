"""Streaming speech synthesis: text in word by word, sound out 16 steps later.

The text stream leads by `delay_steps`: a code drawn at step s for codebook k counts from step
delay_k + delay_steps on, and is no sound before. A step is 80 ms.
Source: PyTorch `moshi/models/tts.py`, `moshi/run_tts.py`.
Shapes: K codebooks, F frames.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Unpack

import mlx.core as mx
import numpy as np

from ..config.lm_config import NO_INPUT
from ..errors import MoshiError
from ..lm.compiled_step import Held, HostFrame
from ..lm.conversation import check_seed
from ..lm.delay_line import LATER, DelayLine
from ..lm.sampling import override, samplers
from ..lm.step_inputs import Layout
from ..mimi import MimiStream
from ..provenance.marker import marker_of
from .machine import Pace, TextMachine
from .model import SpeakingModel
from .script import ScriptEntry, ScriptReader
from .speech import SpeakOptions, Speech, word_times
from .writing import ScriptWriter


@dataclass
class _Made:
    """What a stream has brought so far."""

    fed: list[int] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    pcm: list[np.ndarray] = field(default_factory=list)

    def take(self, fed: int, complete: np.ndarray | None, sound: np.ndarray | None) -> None:
        """A step: the text that was fed, the frame [1 + K] that it completed, the sound."""
        self.fed.append(fed)
        if complete is not None:
            self.codes.append(complete[1:])
        if sound is not None:
            self.pcm.append(sound)


class SpeechStream:
    """One speech: text goes in as it comes, frames come out as soon as nothing can change them."""

    def __init__(
        self,
        speaker: SpeakingModel,
        keep: bool = True,
        codec: MimiStream | None = None,
        **options: Unpack[SpeakOptions],
    ) -> None:
        """`codec`: what decodes, None for a stream of the model's own. See `Speaker.stream`."""
        self._speaker, self._keep, lm = speaker, keep, speaker.lm
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
        self._script = ScriptWriter(
            ScriptReader(
                speaker.tokenizer.encode, speaker.multi_speaker, options.get("padding_between", 1)
            )
        )
        self._line, self._made = DelayLine(config), _Made()
        self._codec = codec
        if codec is None and speaker.mimi is not None:
            self._codec = speaker.mimi.stream()
        if self._codec is not None:  # its sound is what the voice goes on from
            self._codec.follow(self._prefix[: self.n_q])
        self._marker = marker_of(options.get("mark", True))
        self._complete, self._told = False, 0

    def __repr__(self) -> str:
        state = "ended" if self.ended else f"{self.waiting} words waiting"
        return f"<SpeechStream: seed {self.seed}, {state}>"

    @property
    def has_words(self) -> bool:
        """Whether anything was given that can be said."""
        return self._machine.has_words

    @property
    def first_sound(self) -> int:
        """The output frame that sound begins with; a prefix is not part of it."""
        return self._speaker.delay_steps + self._prefix.shape[1]

    @property
    def waiting(self) -> int:
        """Words and breaks that weren't begun yet."""
        return self._machine.waiting

    @property
    def ended(self) -> bool:
        """Whether everything was said."""
        return self._ended()

    def warm_up(self) -> None:
        """Trace and run the step at every cache size, silent and sounding, so that no frame pays
        for it later. Free where a speech of the same options was warmed before."""
        begun = self._line.step > 0
        for slices in (0, self.n_q):
            model = self._speaker.frame(slices)
            function = model.functions.of(self.draws, self._layout)
            function.warm_up(self._held, model.kv_bits, user_later=False, begun=begun)

    def new_words(self) -> list[tuple[str, float]]:
        """The words that were begun since the last call, and the seconds of their starts."""
        words = self._machine.words[self._told :]
        self._told += len(words)
        return word_times(words, self._prefix.shape[1])

    def write(self, piece: str, speaker: int = 0) -> None:
        """Text of one of two speakers as it is written, cut anywhere: a word is taken once white
        space, a break, the other speaker or `end` follows. Raises MoshiError for breaks that can't
        be read, and for words that don't end."""
        if speaker not in (0, 1):
            raise MoshiError(f"there are speakers 0 and 1, no {speaker}")
        self.append(self._script.write(piece, speaker))

    def say(self, text: str, speaker: int = 0) -> None:
        """More text in whole words. Raises MoshiError as `write` does."""
        self.write(text, speaker)
        self.append(self._script.finish())

    def append(self, entries: Iterable[ScriptEntry]) -> None:
        """More text as entries. Raises MoshiError after `end`."""
        if self._complete:
            raise MoshiError("this speech was ended; open another with speaker.stream()")
        self._machine.append(entries)

    def end(self) -> None:
        """No more text will come. Raises MoshiError as `write` does."""
        if not self._complete:
            self.append(self._script.finish())
        self._complete = True

    def frames(self) -> Iterator[np.ndarray | None]:
        """All frames that can be spoken now: float32 [1920], None before sound begins.

        Without a Mimi every item is None. Ends where more text is needed, and at the end.
        """
        while not self._ended() and self._ready():
            yield self._step()

    def speech(self) -> Speech:
        """Everything so far. Raises MoshiError where it wasn't kept."""
        if not self._keep:
            raise MoshiError("this stream keeps no speech; open one with keep=True")
        made = self._made
        codes = np.array(made.codes, np.int32).reshape(len(made.codes), -1).T[: self.n_q]
        pcm = None if self._codec is None else np.concatenate([*made.pcm, np.zeros(0, np.float32)])
        fed, machine = np.array(made.fed, np.int32), self._machine
        words, prefix = tuple(machine.words), self._prefix.shape[1]
        return Speech(fed, codes, words, machine.end_step, pcm, prefix)

    def _ready(self) -> bool:
        in_prefix = self._line.step < self._prefix.shape[1]
        return in_prefix or self._machine.ready(self._complete)

    def _ended(self) -> bool:
        end, step = self._machine.end_step, self._line.step
        return end is not None and step >= end + self._speaker.delay_steps + self._final_padding

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
        sound = None if pcm is None else self._heard(np.array(pcm))
        if self._keep:
            self._made.take(fed, complete, sound)
        return sound

    def _sound(self, drawn: mx.array) -> mx.array | None:
        """Lazy samples [1920] of the frame that this step completes, where it is sound."""
        index = self._line.step - self._speaker.lm.config.max_delay
        known = self._line.upcoming()
        if self._codec is None or known is None or index < self.first_sound:
            return None
        codes = mx.array(known[1 : 1 + self.n_q])
        return self._codec.decode_lazy(mx.where(codes == LATER, drawn[1:], codes))

    def _heard(self, pcm: np.ndarray) -> np.ndarray:
        """A frame's sound as the world gets it, marked last."""
        sound = np.clip(pcm, -1.0, 1.0)
        return sound if self._marker is None else self._marker.frame(sound)

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
