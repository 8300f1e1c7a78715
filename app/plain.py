"""A chat as plain text: Moshi's words on stdout, everything else on stderr."""

import sys
from typing import TextIO

from .chat import Chat, Inbox
from .events import ConversationStarted, Event, FrameDone, Notice, Ready, Refused

PAUSE_FRAMES = 15  # 1.2 s without a word begin a new line


class PlainText:
    """Writes events as lines; knows nothing of threads."""

    def __init__(self, words: TextIO, notes: TextIO) -> None:
        self._words, self._notes = words, notes
        self._last_frame = 0
        self._open = False  # a line of words is under way

    def show(self, event: Event) -> None:
        if isinstance(event, FrameDone):
            self._word(event)
        elif isinstance(event, Ready):
            self.note(f"{event.model} ({event.recipe}) ready after {event.load_seconds:.1f} s")
        elif isinstance(event, ConversationStarted):
            self.end_line()
            self.note(f"conversation {event.number}, seed {event.seed}")
        elif isinstance(event, Notice | Refused):
            self.note(event.message)

    def note(self, line: str) -> None:
        print(line, file=self._notes, flush=True)

    def end_line(self) -> None:
        if self._open:
            print(file=self._words, flush=True)
        self._open = False

    def _word(self, done: FrameDone) -> None:
        if done.index - self._last_frame > PAUSE_FRAMES:
            self.end_line()
        text = done.text if self._open else done.text.lstrip()
        print(text, end="", file=self._words, flush=True)
        self._open, self._last_frame = True, done.index


def run_plain(chat: Chat) -> int:
    """Until the talk is over; returns the exit status."""
    text, inbox = PlainText(sys.stdout, sys.stderr), chat.inbox()
    try:
        chat.start()
        talk(chat, inbox, text)
    finally:
        chat.close()
        text.end_line()
    if chat.failure is not None:
        text.note(f"error: {chat.failure}")
        return 1
    return 0


def talk(chat: Chat, inbox: Inbox, text: PlainText) -> None:
    while not chat.over:
        if (event := inbox.get(0.1)) is not None:
            text.show(event)
    for event in inbox.drain():
        text.show(event)
