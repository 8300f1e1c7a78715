"""Ctrl-C, Ctrl-\\, `kill` and a closed terminal end a command, with the status that shells expect.

Whatever hangs meanwhile (a screen whose terminal is gone, a model that is loading, a sound
driver), the process is over DEADLINE_S after the signal. A thread of its own sees to that: Python
runs signal handlers on the main thread only, between two instructions, and it may be stuck.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Self

from moshi_mlx.output.whole_file import remove_unfinished

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
MOST_INTERRUPTS = 3  # that many mean: now, whatever hangs
# From the first signal: the process is gone within 2 s, and the kernel needs some of it to take
# back the memory of a model.
DEADLINE_S = 1.8


class Signals:
    """A context on the main thread. `status` is None, or 128 + the signal that came first.

    Until `call` says otherwise the first one raises KeyboardInterrupt on the main thread.
    """

    def __init__(
        self,
        terminal: bool = False,
        heed_nohup: bool = False,
        interrupted: int = 130,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`terminal`: one that goes away counts as SIGHUP, which not every shell sends.
        `heed_nohup`: a SIGHUP that is ignored already (`nohup moshi ...`) stays so.
        `interrupted`: the status after Ctrl-C. `clock`, `sleep`: seconds until the deadline."""
        self.status: int | None = None
        self._first: int | None = None  # the signal that came first
        self._interrupted = interrupted
        self.interrupt_s = DEADLINE_S  # what Ctrl-C leaves; bench writes its report in that time
        self._terminal, self._heed_nohup = terminal, heed_nohup
        self._clock, self._sleep = clock, sleep
        self._on_signal: Callable[[], object] | None = None
        self._again: Callable[[], object] | None = None
        self._interrupts, self._raised = 0, False
        self._before: dict[signal.Signals, Any] = {}
        self._left = threading.Event()
        self._read_end = self._write_end = self._other_wakeup = -1
        self._thread = threading.Thread(target=self._watch, name="moshi-signals", daemon=True)

    def call(
        self, on_signal: Callable[[], object], again: Callable[[], object] | None = None
    ) -> None:
        """What a signal does, from now on, on a thread of its own; at once when one has come.

        again: what a second Ctrl-C does, where the first one leaves time (`interrupt_s`)."""
        self._on_signal, self._again = on_signal, again
        if self._first is not None:
            self._wake(self._first)

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        for end in (self._read_end, self._write_end):
            os.set_blocking(end, False)
        self._thread.start()
        self._other_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in ENDING:
            ignored = signal.getsignal(number) is signal.SIG_IGN
            if not (ignored and self._heed_nohup and number == signal.SIGHUP):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        """After a signal the process ends here; a bug met on the way out keeps its traceback."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._other_wakeup)
        if self.status is None:
            self._left.set()
            self._wake(0)
            self._thread.join()
            os.close(self._read_end)
            os.close(self._write_end)
        elif self._ends_with(error):
            leave(self.status)

    def _ends_with(self, error: BaseException | None) -> bool:
        if self._on_signal is None and self._first == signal.SIGINT:
            return False  # the command has had its say about Ctrl-C
        return error is None or isinstance(error, OSError | KeyboardInterrupt | SystemExit)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        self._interrupts += number == signal.SIGINT
        if self._interrupts >= MOST_INTERRUPTS:
            end_now(128 + signal.SIGINT)
        self._wake(number)  # an event loop may have taken the wakeup descriptor for itself
        if self._on_signal is None and not self._raised:
            if importing(frame):
                leave(self.status or 0)
            self._raised = True
            raise KeyboardInterrupt

    def _note(self, number: int) -> None:
        """The first signal decides, whichever thread sees it first."""
        if self._first is None:
            self._first = number
            self.status = self._interrupted if number == signal.SIGINT else 128 + number

    def _wake(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self._write_end, bytes([number]))

    def _watch(self) -> None:
        """The thread: until a signal comes, then until the process has ended or must."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        for descriptor in terminals() if self._terminal else ():
            poll.register(descriptor, 0)  # hanging up is told without being asked for
        while not self._left.is_set():
            for descriptor, what in poll.poll():
                if descriptor != self._read_end:
                    poll.unregister(descriptor)
                    numbers = bytes([signal.SIGHUP]) if what & select.POLLHUP else b""
                else:
                    numbers = os.read(self._read_end, 64)
                for number in numbers:
                    if number in ENDING:
                        self._end(number)

    def _end(self, number: int) -> NoReturn:
        self._note(number)
        seconds = self.interrupt_s if number == signal.SIGINT else DEADLINE_S
        deadline_s = self._clock() + seconds
        called = None
        while self._clock() < deadline_s:
            if self._on_signal is not called:  # or it is said only now what to do
                called = self._on_signal
                assert called is not None
                threading.Thread(target=called, name="moshi-ending", daemon=True).start()
            if self._interrupts > 1 and self._again is not None:
                self._again()
            with contextlib.suppress(BlockingIOError):
                if number == signal.SIGINT and set(os.read(self._read_end, 64)) & set(ENDING[1:]):
                    deadline_s = min(deadline_s, self._clock() + DEADLINE_S)
            self._sleep(0.01)
        end_now(self.status or 0)


def importing(frame: FrameType | None) -> bool:
    """Whether the main thread is loading a module. An exception there comes out of a library's
    start in C++, which takes it for the end of the world (SIGABRT, SIGSEGV)."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def terminals() -> set[int]:
    """Descriptors of the terminals that this process talks to."""
    found = set()
    for stream in (sys.stdin, sys.stdout):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            if stream.isatty():
                found.add(stream.fileno())
    return found


def leave(status: int) -> NoReturn:
    """End the process without asking anything of a terminal, a thread or a library any more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    end_now(status)


def end_now(status: int) -> NoReturn:
    """Nothing is unwound: not the main thread either, so that a file may be half written."""
    remove_unfinished()
    os._exit(status)
