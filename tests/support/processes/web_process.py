"""`moshi web` as a process of its own, as a user starts it."""

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from tests.support.processes.chat_process import both
from tests.support.processes.endings import nothing_ignored


class WebProcess:
    """The running server; `url` is what it printed."""

    def __init__(self, *args: str, start: Sequence[str] = ("-m", "app.cli"), **options) -> None:
        """start: Python's own arguments."""
        command = [sys.executable, *start, "web", "--port", "0", "--no-open", *args]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=both(nothing_ignored, options.pop("preexec_fn", None)),
            **options,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)

    def wait_for(self, text: str, seconds: float = 60.0) -> str:
        """The first printed line that holds `text`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=0.2)
                if text in line:
                    return line
            assert self.process.poll() is None, self.process.stderr.read()  # type: ignore
        raise AssertionError(f"{text!r} was never printed")


@contextlib.contextmanager
def moshi_web(*args: str, **options) -> Iterator[WebProcess]:
    """A server with the embedded model, loaded and ready; `options` of `WebProcess`."""
    server = WebProcess("--model", "nano", *args, **options)
    try:
        server.url = server.wait_for("Talk with Moshi at").split()[4]
        server.wait_for("is ready")
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(timeout=60)
