"""When each word is said: what the model's own text token becomes before it is fed.

The model says when it wants a new word (EPAD) and when silence (PAD); the machine answers with the
word's pieces, one a step. It has only two answers at a step, whether the model asks for a word or
not, and both are known before the model is asked: `answers` gives them, the graph of the frame
chooses, and `advance` takes the model's choice afterwards. So a frame needs one read.
Source: PyTorch `moshi/models/tts.py`, StateMachine.process.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from .script import ScriptEntry

NEW_WORD, PAD = 0, 3
NO_TOKEN = -1  # of the second text stream


@dataclass(frozen=True)
class Pace:
    """Silent steps: at most so many between words, and so many before the first."""

    max_padding: int = 8
    initial_padding: int = 2


@dataclass(frozen=True)
class Answers:
    """What is fed if the model asks for a new word, and if it doesn't (muxed where two streams)."""

    if_word: int
    if_pad: int


@dataclass(frozen=True)
class _State:
    """What a step changes. `taken`: entries that the model asked for, of those that wait."""

    taken: int = 0
    queued: tuple[int, ...] = ()
    lookahead: tuple[int, ...] = ()
    remaining: int = 0
    forced: int = 0
    end_step: int | None = None


class TextMachine:
    """The words to be said, and the step they are taken at.

    `text_card`: pieces of the tokenizer; `ahead`: the second text stream shows the word that comes
    so many words later (0: there is no second stream).
    """

    def __init__(
        self,
        text_card: int,
        ahead: int,
        pace: Pace | None = None,
        entries: Iterable[ScriptEntry] = (),
    ) -> None:
        pace = pace or Pace()
        self.text_card, self.ahead, self._max_padding = text_card, ahead, pace.max_padding
        self._entries = deque(entries)  # that wait
        self._worded = any(entry.tokens for entry in self._entries)
        self._state = _State(remaining=pace.initial_padding, forced=pace.initial_padding)
        self.step = 0
        self.consumed: list[int] = []  # the step of each entry taken, breaks too
        self.words: list[tuple[str, int]] = []

    @property
    def end_step(self) -> int | None:
        """The step at which the model asked for a word and there was none left."""
        return self._state.end_step

    @property
    def has_words(self) -> bool:
        """Whether any text was given that can be said."""
        return self._worded

    @property
    def waiting(self) -> int:
        """Entries that the model hasn't asked for yet."""
        return len(self._entries)

    def skip(self, steps: int) -> None:
        """Count steps at which the machine isn't asked: those of an audio prefix."""
        self.step += steps

    def append(self, entries: Iterable[ScriptEntry]) -> None:
        """Text that arrives later."""
        for entry in entries:
            self._entries.append(entry)
            self._worded = self._worded or bool(entry.tokens)

    def ready(self, complete: bool) -> bool:
        """Whether a step now gives what it would with all text there.

        `complete`: no text will follow.
        """
        if complete:
            return True
        waiting = iter(self._entries)
        head = next(waiting, None)
        if head is None:
            return False
        if self.ahead == 0 or not head.tokens:
            return True
        words = (entry for entry in waiting if entry.tokens)
        return sum(1 for _ in islice(words, self.ahead)) == self.ahead

    def answers(self) -> Answers:
        """Both things that the coming step may feed."""
        return Answers(self._after(NEW_WORD)[0], self._after(PAD)[0])

    def advance(self, token: int) -> int:
        """Take the model's own token of this step; returns what was fed."""
        fed, state = self._after(token)
        self._state = replace(state, taken=0)
        for _ in range(state.taken):
            entry = self._entries.popleft()
            self.consumed.append(self.step)
            if entry.tokens:
                self.words.append((entry.text, self.step))
        self.step += 1
        return fed

    def _waiting(self, taken: int) -> Iterator[ScriptEntry]:
        return islice(self._entries, taken, None)

    def _after(self, token: int) -> tuple[int, _State]:
        """What is fed for a token of the model, and the state after it."""
        state = self._state
        if state.queued or state.forced > 0:
            token = PAD
        elif state.remaining <= 0:
            token = NEW_WORD
        elif token != NEW_WORD:  # the model may sample pieces of its own
            token = PAD
        if token == NEW_WORD:
            token, state = self._take(state)
        fed, state = self._say(state, token)
        if not self.ahead:
            return fed, state
        second = NO_TOKEN
        if fed == NEW_WORD:
            second = NEW_WORD
            fed, state = self._piece(state)
        elif state.lookahead:
            second = state.lookahead[0]
            state = replace(state, lookahead=state.lookahead[1:])
        return (second + 1) * (self.text_card + 1) + fed, state

    def _say(self, state: _State, token: int) -> tuple[int, _State]:
        """NEW_WORD stays; silence takes the word's next piece, if one is queued."""
        if token == NEW_WORD:
            return NEW_WORD, state
        fewer = replace(
            state, remaining=max(0, state.remaining - 1), forced=max(0, state.forced - 1)
        )
        return self._piece(fewer)

    def _piece(self, state: _State) -> tuple[int, _State]:
        """The next queued piece, or PAD."""
        if not state.queued:
            return PAD, state
        return state.queued[0], replace(state, queued=state.queued[1:])

    def _take(self, state: _State) -> tuple[int, _State]:
        """The model gets its word: NEW_WORD, or PAD for a break and after the end."""
        if state.taken == len(self._entries):
            first = state.end_step is None
            token = NEW_WORD if self.ahead and first else PAD
            return token, replace(state, end_step=self.step if first else state.end_step)
        entry = self._entries[state.taken]
        state = replace(state, taken=state.taken + 1, forced=entry.padding)
        if not entry.tokens:
            return PAD, state
        shown = self._following(state.taken) if self.ahead else ()
        return NEW_WORD, replace(
            state,
            queued=state.queued + entry.tokens,
            lookahead=state.lookahead + shown,
            remaining=self._max_padding,
        )

    def _following(self, taken: int) -> tuple[int, ...]:
        """The tokens of the `ahead`-th word after the one that was taken."""
        worded = (entry.tokens for entry in self._waiting(taken) if entry.tokens)
        return next(islice(worded, self.ahead - 1, None), ())
