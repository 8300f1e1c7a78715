"""The user's words in the documents' pictures: those of the questions that are played.

Kyutai's speech to text models aren't in the package, so what they would write down is told here: a
word each third of a second from where somebody begins to speak, and as late as the 1B's come.

python -m tools.known_words ...     # moshi web so; its options
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from app.commands.signals import Signals
from app.commands.web import Host, configure, place_from, wanted_from
from app.events import ConversationStarted, Event, FrameDone, UserWord
from moshi_mlx.clock import FRAME_SECONDS

WORD_FRAMES, DELAY_FRAMES = 4, 8
SILENT_FRAMES = 15  # before a question
LOUD = 0.05


class KnownWords:
    """In place of the process that writes down what is heard."""

    def __init__(self, names: tuple[str, ...], tell: Callable[[Event], None]) -> None:
        """names: of the package's questions, as they are said in each conversation."""
        self._names, self._tell = names, tell
        self._begin(0)

    def _begin(self, number: int) -> None:
        self._number, self._silent = number, SILENT_FRAMES
        self._left = list(self._names)
        self._due: list[tuple[int, UserWord]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, ConversationStarted):
            self._begin(event.number)
        if not isinstance(event, FrameDone):
            return
        loud = np.abs(event.heard).max() > LOUD
        if loud and self._silent >= SILENT_FRAMES and self._left:
            said = self._left.pop(0).replace("_", " ").capitalize()
            end = "." if said.startswith(("Tell", "Say", "Sing")) else "?"
            for n, word in enumerate(f"{said}{end}".split()):
                at = event.index + n * WORD_FRAMES
                told = UserWord(self._number, word, at * FRAME_SECONDS)
                self._due.append((at + DELAY_FRAMES, told))
        self._silent = 0 if loud else self._silent + 1
        while self._due and self._due[0][0] <= event.index:
            self._tell(self._due.pop(0)[1])

    def close(self, timeout_s: float) -> None: ...


def main() -> int:
    from tools.page_picture import QUESTIONS

    parser = argparse.ArgumentParser()
    configure(parser)
    args = parser.parse_args(sys.argv[2:])  # after `web`
    wanted = replace(wanted_from(args), words=lambda tell: KnownWords(QUESTIONS, tell))
    with Signals(heed_nohup=True, interrupted=0) as signals:
        return asyncio.run(Host(place_from(args), wanted, signals).serve())


if __name__ == "__main__":
    sys.exit(main())
