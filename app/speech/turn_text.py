"""The words of a turn as they come, to be printed one after the other: nothing is taken back."""

from collections.abc import Sequence

from moshi_mlx.stt import Word


class TurnText:
    """What is new to be shown of one speaker's words, turn after turn.

    Words that a flush has shown are certain later and come again; they aren't shown twice.
    """

    def __init__(self) -> None:
        self._shown_until_s = -1.0  # start of the last word of the turns that are over
        self._words: list[Word] = []  # of this turn
        self._shown = ""
        self._leading, self._leading_over = "", 0  # what has no time, and how much of it was shown

    @property
    def begun(self) -> bool:
        """Whether anything of this turn was shown."""
        return bool(self._shown)

    def push(
        self, words: Sequence[Word], pending: str, pending_start_s: float, leading: str = ""
    ) -> str:
        """Words that are certain, and the text of one that isn't; what to print of it.

        leading: text that came before the first word's start.
        """
        self._leading = leading
        self._words += [word for word in words if word.start_s > self._shown_until_s]
        uncertain = pending if pending_start_s > self._shown_until_s else ""
        return self._new(uncertain.strip())

    def end(self, words: Sequence[Word]) -> str:
        """The turn is over, and these are the rest of its words; what to print before it ends."""
        self._words += [word for word in words if word.start_s > self._shown_until_s]
        new = self._new("")
        if self._words:
            self._shown_until_s = self._words[-1].start_s
        self._words, self._shown, self._leading_over = [], "", len(self._leading)
        return new

    def _new(self, uncertain: str) -> str:
        first = self._leading[self._leading_over :].strip()
        parts = [first, *(word.text for word in self._words), uncertain]
        text = " ".join(part for part in parts if part)
        if not text.startswith(self._shown):  # the model has changed its mind: on a line of its own
            self._shown = ""
            new = f"\n{text}"
        else:
            new = text[len(self._shown) :]
        self._shown = text
        return new
