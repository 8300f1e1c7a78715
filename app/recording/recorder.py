"""Writes a talk to disk as it goes: stereo sound, transcript, timings, manifest.

A session listener: it only queues events; a thread of its own writes them. A disk that fails ends
the recording, never the talk.
"""

import contextlib
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from moshi_mlx.errors import AudioError

from ..events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    FrameDone,
    Notice,
    Ready,
    Stopped,
    UserWord,
)
from ..events.queue import EventQueue
from ..provenance.origin import Origin
from ..provenance.seal import BYTES_PER_S, Seal, is_news, no_time
from .flac import to_flac
from .take import SWITCHED_OFF, Take

LONGEST_SEAL_S = 600.0
ENDED_KEPT = 4  # takes that late words still find


class Recorder:
    """Call it with every event; `close` when the session has ended."""

    def __init__(
        self,
        folder: Path,
        flac: bool = False,
        on_notice: Callable[[Notice], None] | None = None,
        seal: Seal | None = None,
    ) -> None:
        """Makes `folder`. Raises AudioError when that is impossible."""
        self.folder, self._flac, self._seal = Path(folder), flac, seal
        self._on_notice = on_notice
        self._events = EventQueue(self._run, "moshi-recorder")
        self._take: Take | None = None
        self._ended: deque[Take] = deque(maxlen=ENDED_KEPT)  # their last words may still come
        self._model: Ready | None = None
        self.failure: str | None = None  # one line once the disk has failed
        self.takes: list[Path] = []  # one folder for each conversation recorded
        self.unsigned: dict[Path, str] = {}  # why a take is, where that is news
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioError(f"can't record to {folder}: {error.strerror}") from error
        self._until_s = math.inf
        self._sealing = False
        self._events.start()

    def __call__(self, event: Event) -> None:
        """Any thread; never waits."""
        if self.failure is None and not self._events.put(event):
            self._fail(f"the disk of {self.folder} does not answer")

    def end_sound(self) -> None:
        """The talk goes on, its recording doesn't: what is recorded ends here, without being waited
        for. Words that were said until now are taken until `finish`."""
        self(ConversationEnded(0, SWITCHED_OFF, 0))

    def finish(self) -> None:
        """Write what is queued and end the thread, without waiting for it."""
        self._events.finish()

    def close(self, timeout_s: float = 10.0, flac_s: float = math.inf) -> None:
        """The same, and wait. Sound that takes longer than `flac_s` to be made a flac stays wav,
        and unsigned; signing is waited for, since long recordings take longer than `timeout_s`."""
        self._until_s = time.monotonic() + flac_s
        self.finish()
        self._events.join(timeout_s)
        if self._sealing and math.isinf(flac_s):
            self._events.join(LONGEST_SEAL_S)

    def late_word(self, word: UserWord) -> None:
        """Of a recording that has ended, after `close` on the caller's thread: a word that its
        model's delay held back. What can't be written any more is left out."""
        for take in self._ended:
            with contextlib.suppress(OSError):  # the folder has gone, or its disk is full
                take.user_word(word)

    def _fail(self, why: str) -> None:
        self.failure = f"recording stopped: {why}"
        if self._on_notice is not None:
            self._on_notice(Notice("recording-failed", self.failure))

    def _run(self) -> None:
        while not isinstance(event := self._events.next(), Stopped):
            if self.failure is None:
                try:
                    self._write(event)
                except (OSError, AudioError) as error:
                    self._fail(getattr(error, "strerror", None) or str(error))
                    self._end_take("disk failed")
        self._end_take("stopped")

    def _write(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._model = event
        elif isinstance(event, ConversationStarted):
            self._end_take("new conversation")
            self._take = self._begin_take(event)
            self.takes.append(self._take.folder)
        elif isinstance(event, FrameDone) and self._take is not None:
            self._take.frame(event)
        elif isinstance(event, UserWord):
            self.late_word(event)
            if self._take is not None:
                self._take.user_word(event)
        elif isinstance(event, ConversationEnded):
            self._end_take(event.reason)

    def _begin_take(self, event: ConversationStarted) -> Take:
        folder = self._new_folder(event.number)
        try:
            return Take(folder, event, self._model)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # ours alone: it was made a moment ago
            raise

    def _new_folder(self, number: int) -> Path:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ["", *(f"-{i}" for i in range(2, 1000))]:
            path = self.folder / f"{stamp}_talk{number}{suffix}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
        raise AudioError(f"too many recordings in {self.folder}")

    def _end_take(self, reason: str) -> None:
        take, self._take = self._take, None
        if take is not None:
            self._ended.append(take)
            try:
                take.close(reason)
                sound = take.folder / "talk.wav"
                if self._flac and self.failure is None:
                    sound = to_flac(sound, lambda: time.monotonic() < self._until_s, take.note)
                if self._seal is not None and self.failure is None:
                    why_not = self._sealed(sound, take.origin)
                    if is_news(why_not):
                        self.unsigned[take.folder] = why_not
                    take.sealed(why_not)
            except OSError as error:
                if self.failure is None:
                    self._fail(error.strerror or str(error))

    def _sealed(self, sound: Path, origin: Origin) -> str:
        """ "" when the sound is signed, else one line why not."""
        assert self._seal is not None
        needed_s = sound.stat().st_size / BYTES_PER_S
        if time.monotonic() + needed_s > self._until_s:
            return no_time()
        self._sealing = True
        try:
            return self._seal(sound, origin)
        finally:
            self._sealing = False
