"""Ctrl-C, `kill` and a closed terminal end a talk in order, with the status that shells expect."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_INTERRUPTS = 3  # that many mean: now, whatever hangs


class Signals:
    """A context on the main thread. `status` is None, or 128 + the signal that came first."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._on_signal: Callable[[], None] = lambda: None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def call(self, on_signal: Callable[[], None]) -> None:
        """What a signal does, from now on; at once when one has come already."""
        self._on_signal = on_signal
        if self.status is not None:
            on_signal()

    def __enter__(self) -> Self:
        for number in ENDING:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.status is None:
            self.status = 128 + number
        self._interrupts += number == signal.SIGINT
        if self._interrupts >= MOST_INTERRUPTS:
            os._exit(self.status)
        self._on_signal()
