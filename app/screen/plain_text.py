"""A chat as plain text: Moshi's words on stdout, and the user's where they are written down;
everything else on stderr."""

import errno
import os
import select
import sys
import threading
from typing import TextIO

from moshi_mlx.errors import AudioError, printable

from ..events import ConversationStarted, Event, FrameDone, Notice, Ready, Refused, UserWord
from ..talk.chat import Chat

POLL_S = 0.1
PAUSE_FRAMES = 15  # 1.2 s without a word begin a new line


class PlainText:
    """Writes events as lines; knows nothing of threads."""

    def __init__(self, words: TextIO, notes: TextIO) -> None:
        self._words, self._notes = words, notes
        self._last_frame = 0
        self._open = False  # a line of words is under way
        self._users = False  # and it is the user's
        self._whose = 0  # in this conversation

    def show(self, event: Event) -> None:
        if isinstance(event, FrameDone):
            self._word(event)
        elif isinstance(event, UserWord):
            self._user_word(event)
        elif isinstance(event, Ready):
            self.note(f"{event.title} ready after {event.load_seconds:.1f} s")
        elif isinstance(event, ConversationStarted):
            self.end_line()
            self.note(f"conversation {event.number}, seed {event.seed}")
        elif isinstance(event, Notice | Refused):
            self.note(event.message)

    def note(self, line: str) -> None:
        if self._words.isatty():  # one screen for both
            self.end_line()
        print(printable(line), file=self._notes, flush=True)  # a device's name may be in it

    def end_line(self) -> None:
        if self._open:
            print(file=self._words, flush=True)
        self._open = self._users = False

    def _user_word(self, word: UserWord) -> None:
        """On a line of his own: his words come later than they were said."""
        if not self._users or word.conversation != self._whose:
            self.end_line()
        self._whose = word.conversation
        print(f" {word.text}" if self._users else f"you: {word.text}", end="", file=self._words)
        self._words.flush()
        self._open = self._users = True

    def _word(self, done: FrameDone) -> None:
        if self._users or done.index - self._last_frame > PAUSE_FRAMES:
            self.end_line()
        text = done.text if self._open else done.text.lstrip()
        print(text, end="", file=self._words, flush=True)
        self._open, self._last_frame = True, done.index


def run_plain(chat: Chat) -> None:
    """Until the talk is over and closed, or nobody reads any more. Raises AudioError: no device."""
    text, inbox = PlainText(sys.stdout, sys.stderr), chat.inbox()
    chat.start()
    keys = KeyReader(chat, text) if sys.stdin is not None and sys.stdin.isatty() else None
    try:
        while not chat.over:
            if (event := inbox.get(POLL_S)) is not None:
                text.show(event)
            if keys is not None:
                keys.look()
        closing = threading.Thread(target=chat.close, name="moshi-closing", daemon=True)
        closing.start()  # the user's last words come meanwhile
        while closing.is_alive():
            if (event := inbox.get(POLL_S)) is not None:
                text.show(event)
        for event in inbox.drain():
            text.show(event)
        text.end_line()
    except OSError as error:  # the terminal was closed, or the pipe's reader has gone
        chat.quit()
        if error.errno == errno.ENOSPC:
            text.note("the disk is full where Moshi's words go: the talk ends here")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class KeyReader:
    """Lines typed in a plain talk: n, m, r, s, q and Return."""

    def __init__(self, chat: Chat, text: PlainText) -> None:
        self._chat, self._text = chat, text
        self._open = True
        text.note("keys, each with Return: n new conversation, m mute, r record, s save, q quit")

    def look(self) -> None:
        """Never waits."""
        while self._open and select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline()
            self._open = line != ""  # the end of input is no command
            self._do(line.strip().lower())

    def _do(self, command: str) -> None:
        if command == "q":
            self._chat.quit()
        elif command == "n":
            self._chat.new_conversation()
        elif command == "s":
            self._chat.keep()
        elif command == "m":
            self._text.note("muted" if self._chat.mute() else "listening")
        elif command == "r":
            try:
                on = self._chat.record()
            except AudioError as error:
                self._text.note(str(error))
            else:
                self._text.note(f"recording to {self._chat.folder}" if on else "recording ended")
