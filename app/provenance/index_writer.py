"""Puts a talk's generated sound into the index as it goes: a session listener that only queues.

A thread of its own finds landmarks and writes them, some seconds later. An index that fails ends
the indexing with one notice, never the talk.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance.landmarks import (
    BLOCK_TICKS,
    FFT_SAMPLES,
    HOP_SAMPLES,
    landmarks,
)

from ..events import ConversationEnded, ConversationStarted, Event, FrameDone, Notice, Stopped
from ..events.queue import EventQueue
from .index import Index

BLOCK_HOPS = 10 * BLOCK_TICKS  # 5 s: how often landmarks are sought
# Before a block, so that pairs across its start are found and its peaks have their neighbours. Both
# are whole blocks of landmarks, whose strongest peaks are then the same as in one go.
OVERLAP_HOPS = 2 * BLOCK_TICKS
BLOCK_SAMPLES, OVERLAP_SAMPLES = BLOCK_HOPS * HOP_SAMPLES, OVERLAP_HOPS * HOP_SAMPLES


class IndexWriter:
    """Call it with every event; `close` when the session has ended."""

    def __init__(
        self, path: Path, on_notice: Callable[[Notice], None] = lambda notice: None
    ) -> None:
        """Raises MoshiError for an index that can't be used."""
        Index(path).close()  # told now, not in the middle of a talk
        self._path, self._on_notice = path, on_notice
        self._talk: _Talk | None = None
        self.failure: str | None = None
        self._events = EventQueue(self._run, "moshi-index")
        self._events.start()

    def __call__(self, event: Event) -> None:
        """Any thread; never waits."""
        if self.failure is None and not self._events.put(event):
            self._fail(f"the disk of {self._path} does not answer")

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued, and wait for that."""
        self._events.finish()
        self._events.join(timeout_s)

    def _fail(self, why: str) -> None:
        self.failure = why
        self._on_notice(Notice("index-failed", f"nothing more goes into the index: {why}"))

    def _run(self) -> None:
        try:
            with Index(self._path) as index:
                while not isinstance(event := self._events.next(), Stopped):
                    self._take(index, event)
                self._end()
        except MoshiError as error:
            self._fail(str(error))

    def _take(self, index: Index, event: Event) -> None:
        if isinstance(event, ConversationStarted):
            self._end()
            self._talk = _Talk(index)
        elif isinstance(event, FrameDone) and self._talk is not None:
            self._talk.frame(event.reply)
        elif isinstance(event, ConversationEnded):
            self._end()

    def _end(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.close()


class _Talk:
    """One conversation's sound, on its way into the index."""

    def __init__(self, index: Index) -> None:
        self._index, self.number = index, index.begin()
        self._sound = np.zeros(0, np.float32)
        self._first_hop = 0  # of `_sound`

    def frame(self, reply: np.ndarray | None) -> None:
        pcm = np.zeros(FRAME_SAMPLES, np.float32) if reply is None else reply
        self._sound = np.concatenate([self._sound, pcm])
        if len(self._sound) >= OVERLAP_SAMPLES + BLOCK_SAMPLES + FFT_SAMPLES:
            self._write()
            gone = (len(self._sound) // HOP_SAMPLES - OVERLAP_HOPS) // BLOCK_TICKS * BLOCK_TICKS
            self._sound = self._sound[gone * HOP_SAMPLES :]
            self._first_hop += gone

    def _write(self) -> None:
        self._index.add(self.number, landmarks(self._sound), self._first_hop)

    def close(self) -> None:
        self._write()


class SoundIndex:
    """Generated sound on its way into an index, as it comes. A context manager."""

    def __init__(self, path: Path, tell: Callable[[str], None] | None = None) -> None:
        """tell: takes the line of an index that fails later, a full disk for one, and nothing else
        ends by that; None: it is raised then. Raises MoshiError for an index of no use."""
        self._index, self._tell, self._failed = Index(path), tell, False
        self._talk: _Talk | None = None  # nothing is begun that has no sound
        self._rest = np.zeros(0, np.float32)

    def add(self, pcm: np.ndarray) -> None:
        """float [n] at 24 kHz, any n; of the last frame only a whole one is looked at."""
        if self._failed:
            return
        with self._told():
            self._talk = self._talk or _Talk(self._index)
            sound = np.concatenate([self._rest, pcm])
            whole = len(sound) // FRAME_SAMPLES * FRAME_SAMPLES
            for frame in sound[:whole].reshape(-1, FRAME_SAMPLES):
                self._talk.frame(frame)
            self._rest = sound[whole:]

    @property
    def talk(self) -> int:
        """Its number in the index; 0 before any sound."""
        return 0 if self._talk is None else self._talk.number

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except MoshiError as error:
            if self._tell is None:
                raise
            self._failed = True
            self._tell(f"nothing more goes into the index: {error}")

    def __enter__(self) -> "SoundIndex":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._talk is not None and not self._failed:
                with self._told():
                    self._talk.close()
        finally:
            self._index.close()


def add_sound(path: Path, pcm: np.ndarray) -> int:
    """A whole recording of generated sound, float [n] at 24 kHz; returns the talk's number, 0 where
    there is no sound. Raises MoshiError."""
    with SoundIndex(path) as index:
        index.add(pcm)
    return index.talk
