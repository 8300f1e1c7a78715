"""Events on their way from the talk to a thread that writes them: bounded, and never waited for."""

import contextlib
import queue
import threading
from collections.abc import Callable

from . import Event, Stopped

QUEUE_FRAMES = 375  # 30 s; a disk that hangs for longer ends the writing, never the talk
FINISH_S = 0.5  # how soon the end is seen when the queue was full


class EventQueue:
    """Any thread puts, the thread made here takes and writes."""

    def __init__(self, run: Callable[[], None], name: str) -> None:
        """`run` calls `next` until Stopped comes; `start` it when all that it needs is there."""
        self._events: queue.Queue[Event] = queue.Queue(QUEUE_FRAMES)
        self._finished = threading.Event()
        self._thread = threading.Thread(target=run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event) -> bool:
        """False where the writer is half a minute behind; never waits."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            return False
        return True

    def next(self) -> Event:
        """The next event; Stopped when asked to finish and everything has been taken."""
        while True:
            try:
                return self._events.get(timeout=FINISH_S)
            except queue.Empty:
                if self._finished.is_set():
                    return Stopped()

    def finish(self) -> None:
        """Let the thread write what is queued and end, without waiting for it."""
        self._finished.set()
        with contextlib.suppress(queue.Full):  # then the thread sees `_finished` soon enough
            self._events.put_nowait(Stopped())

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
