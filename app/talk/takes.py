"""The recordings of one chat: switched on and off while it goes on, each by a recorder of its own.

Words of the user's come later than they were said: a recorder that is switched off ends its sound
at once, and goes on taking words until they are over.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    FrameDone,
    Ready,
    Stopped,
    UserWordsOver,
)
from ..recording.recorder import Recorder

LATE_FRAMES = 1000  # 80 s: words come no later, or not at all


@dataclass(frozen=True)
class _Late:
    """Switched off in this conversation, after this frame of it."""

    recorder: Recorder
    conversation: int
    frame: int


class Takes:
    """Call it with every event of the session, and `beside` with the user's words. Any thread."""

    def __init__(self, make: Callable[[], Recorder], words: bool) -> None:
        """words: the user's are written down, so that there are some to wait for."""
        self._make, self._words = make, words
        self._lock = threading.Lock()  # held for a moment only
        self._every: list[Recorder] = []
        self._recorder: Recorder | None = None
        self._late: list[_Late] = []
        self._ready: Ready | None = None
        self._started: ConversationStarted | None = None
        self._frame = 0  # the last one's index

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Ready):
                self._ready = event
            elif isinstance(event, ConversationStarted | ConversationEnded):
                self._started = event if isinstance(event, ConversationStarted) else None
            elif isinstance(event, FrameDone):
                self._frame = event.index
                self._let_go(lambda late: late.frame + LATE_FRAMES < event.index)
            if self._recorder is not None and not isinstance(event, Stopped):
                self._recorder(event)

    def beside(self, event: Event) -> None:
        with self._lock:
            if self._recorder is not None:
                self._recorder(event)
            for late in self._late:
                late.recorder(event)
            if isinstance(event, UserWordsOver):
                self._let_go(lambda late: late.conversation <= event.conversation)

    def _let_go(self, which: Callable[[_Late], bool]) -> None:
        for late in [late for late in self._late if which(late)]:
            self._late.remove(late)
            late.recorder.finish()

    def switch(self, on: bool | None = None) -> bool:
        """On, off, or the other one; returns which it is now. Raises AudioError: no folder."""
        wanted = self._recorder is None if on is None else on
        if wanted and self._recorder is None:
            self._begin()
        elif not wanted:
            self._end()
        return wanted

    def _begin(self) -> None:
        recorder = self._make()
        self._every.append(recorder)
        with self._lock:
            for event in (self._ready, self._started):
                if event is not None:
                    recorder(event)
            self._recorder = recorder

    def _end(self) -> None:
        with self._lock:
            recorder, self._recorder = self._recorder, None
            if recorder is not None and self._words and self._started is not None:
                recorder.end_sound()
                self._late.append(_Late(recorder, self._started.number, self._frame))
            elif recorder is not None:
                recorder.finish()

    @property
    def on(self) -> bool:
        """Whether there is one under way, on a disk that takes it."""
        recorder = self._recorder
        return recorder is not None and recorder.failure is None

    @property
    def folder(self) -> Path | None:
        """Of the one under way."""
        recorder = self._recorder
        return recorder.takes[-1] if recorder is not None and recorder.takes else None

    @property
    def folders(self) -> list[Path]:
        """Every one so far, a folder for each."""
        return [take for recorder in self._every for take in recorder.takes]

    @property
    def unsigned(self) -> dict[Path, str]:
        """Why a folder's sound isn't signed, where that is news: one line."""
        return {take: why for each in self._every for take, why in each.unsigned.items()}

    @property
    def failure(self) -> str | None:
        """One line about the first one that failed."""
        return next((recorder.failure for recorder in self._every if recorder.failure), None)

    def close(self, flac_s: float) -> None:
        """Once no word comes any more: finish them all. `flac_s`: see `Recorder.close`."""
        with self._lock:
            self._recorder, self._late = None, []
        for recorder in self._every:
            recorder.close(flac_s=flac_s)
