"""The user's own words beside a talk: a session listener that hands frames to another process.

It only queues; two threads of its own write to the process and read from it. Whatever happens
there ends the writing down with one notice, never the talk.
"""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ..events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    FrameDone,
    Notice,
    Stopped,
    UserWord,
    UserWordsOver,
)
from .words_child import BEGIN, END, FRAME, HEADER

QUEUE_RECORDS = 750  # a minute: a model that loads, or a machine that is busy for a while
TOO_SLOW = "this machine is too slow to write down what you say as well"


class WordsBeside:
    """Call it with every event; `close` when the session has ended."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        tell: Callable[[Event], None],
    ) -> None:
        """command: runs `words_child`; tell: takes UserWord, UserWordsOver and Notice, on any
        thread. UserWordsOver comes for every conversation, whatever becomes of the process."""
        self._tell = tell
        self._queue: queue.Queue[tuple[bytes, bytes] | None] = queue.Queue(QUEUE_RECORDS)
        self._failed = threading.Event()
        self._closing, self._number = False, 0  # of the conversation that was last begun
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the talk
        )
        self._threads = [
            threading.Thread(target=run, name=f"moshi-words-{name}", daemon=True)
            for name, run in (("out", self._write), ("in", self._read))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def process_id(self) -> int:
        """Of the process beside."""
        return self._process.pid

    def __call__(self, event: Event) -> None:
        """Any thread; never waits."""
        record: tuple[bytes, bytes] | None = None
        if isinstance(event, FrameDone):
            record = FRAME, event.heard.tobytes()
        elif isinstance(event, ConversationStarted):
            self._number = event.number
            record = BEGIN, str(event.number).encode()
        elif isinstance(event, ConversationEnded):
            record = END, b""
        elif isinstance(event, Stopped):
            self._closing = True
        else:
            return
        if not self._queued(record) and isinstance(event, ConversationEnded):
            self._tell(UserWordsOver(event.number))

    def _queued(self, record: tuple[bytes, bytes] | None) -> bool:
        if self._failed.is_set():
            return False
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._fail(TOO_SLOW)
            return False
        return True

    def close(self, timeout_s: float) -> None:
        """The last words, if they come within that time; then the process is over."""
        self._closing, until_s = True, time.monotonic() + timeout_s
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._process.kill()
        self._process.wait()

    def _write(self) -> None:
        """The thread that feeds it."""
        assert self._process.stdin is not None
        try:
            with self._process.stdin as pipe:
                while (record := self._queue.get()) is not None:
                    kind, data = record
                    pipe.write(HEADER.pack(kind, len(data)) + data)
                    pipe.flush()
        except OSError:
            pass  # it has ended: the reader says so

    def _read(self) -> None:
        """The thread that hears from it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "failed" in said:
                self._fail(said["failed"])
            elif "over" in said:
                self._tell(UserWordsOver(said["over"]))
            else:
                self._tell(UserWord(said["conversation"], said["word"], said["at"]))
        if not self._closing:
            self._fail("the process that does so has ended")
        self._tell(UserWordsOver(self._number))  # of one that ended before the process did

    def _fail(self, why: str) -> None:
        """Told once."""
        if not self._failed.is_set():
            self._failed.set()
            self._tell(Notice("words-failed", f"what you say isn't written down: {why}"))
