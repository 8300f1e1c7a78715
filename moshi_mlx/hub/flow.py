"""Bytes that flow from the hub, and who waits for them: not for ever where they hardly do."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .failures import NoAnswerError

LEAST_BYTES = 10_000  # fewer, in all the time that somebody waits, are none
LOOK_EVERY_S = 0.25
T = TypeVar("T")


class Flow:
    """Counts what comes. Written by the thread that receives."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self.unwanted = False  # nobody waits any more

    def add(self, num_bytes: int) -> None:
        """Raises NoAnswerError where nobody waits any more: what receives ends there."""
        self.num_bytes += num_bytes
        if self.unwanted:
            raise NoAnswerError("nobody waits for it any more")


def waited_for(receive: Callable[[Flow], T], patience_s: float) -> T:
    """What `receive` returns or raises, on a thread of its own; NoAnswerError once fewer than
    LEAST_BYTES have come in `patience_s`, whatever the server does meanwhile."""
    flow, found, failed = Flow(), list[T](), list[BaseException]()

    def run() -> None:
        try:
            found.append(receive(flow))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="moshi-download", daemon=True)
    thread.start()
    had, since_s = 0, time.monotonic()
    try:
        while thread.is_alive():
            thread.join(LOOK_EVERY_S)
            if flow.num_bytes - had >= LEAST_BYTES:
                had, since_s = flow.num_bytes, time.monotonic()
            if thread.is_alive() and time.monotonic() - since_s > patience_s:
                raise NoAnswerError(f"the hub has sent almost nothing for {patience_s:g} s")
    finally:
        flow.unwanted = True
    if failed:
        raise failed[0]
    return found[0]
