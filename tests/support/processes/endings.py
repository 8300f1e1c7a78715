"""Commands as processes that are ended from outside: by a signal, or by a terminal that closes."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
CLOSED = "terminal closed"  # beside the signals, a way to end
STATUS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143, CLOSED: 129}


def nothing_ignored() -> None:
    """In a child: no signal ignored, as nohup and shells in the background have them."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _as_from_a_shell(slave: int | None) -> None:
    """In the child: no signal ignored, a terminal of its own."""
    nothing_ignored()
    if slave is not None:
        os.login_tty(slave)


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal: SIGTERM's is never Python's own, but ours."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (number - 1) & 1 == 1


def until_ours(process: subprocess.Popen) -> None:
    """Until a command's own handlers are there; before, a signal is Python's business."""
    if Path("/proc/self/status").exists():
        until(lambda: process.poll() is not None or catches(process.pid, signal.SIGTERM))
    else:
        time.sleep(3.0)


class Command:
    """`python -m app.cli ARGS`, its output in a file, or all of it on a pseudo terminal."""

    def __init__(self, folder: Path, *args: object, terminal: bool = False, reads: bool = True):
        """`reads` False: nobody takes what it writes to the terminal, which then is full."""
        self.err = folder / f"stderr-{time.monotonic_ns()}"
        self.master, slave = pty.openpty() if terminal else (None, None)
        out = self.err.open("wb") if slave is None else slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *map(str, args)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL if slave is None else slave,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: _as_from_a_shell(slave),
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )
        out.close() if slave is None else os.close(slave)
        self._closed = threading.Event()
        if self.master is not None and reads:
            threading.Thread(target=self._read, args=(self.master,), daemon=True).start()

    def _read(self, master: int) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                if select.select([master], [], [], 0.02)[0] and not os.read(master, 65536):
                    return

    @property
    def said(self) -> str:
        return self.err.read_text(errors="replace")

    def end(self, how: object, within_s: float) -> int:
        """The exit status; fails when the process isn't over by then, and kills it."""
        if how == CLOSED:
            assert self.master is not None
            self._closed.set()
            time.sleep(0.05)  # the reader has let go
            os.close(self.master)
            self.master = None
        elif isinstance(how, signal.Signals) and self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(within_s)
        finally:
            self.close()

    def close(self) -> None:
        self._closed.set()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.master is not None:
            time.sleep(0.05)
            os.close(self.master)
            self.master = None


def until(true, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
