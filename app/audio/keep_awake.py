"""Keeps a Mac from falling asleep by itself while something goes on that nobody types for."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Self

COMMAND = ("/usr/bin/caffeinate",) if sys.platform == "darwin" else None


class KeepAwake:
    """A context, or `start` and `stop`, each as often as wanted; nothing to do but on macOS.

    `caffeinate -i` prevents idle sleep only (the lid still works) and `-w` ends it with us, so that
    not even a crash leaves a Mac that never sleeps.
    """

    def __init__(self, command: Sequence[str] | None = COMMAND) -> None:
        """`command`: what takes caffeinate's options; None: there is nothing of the kind."""
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._command is None or self._process is not None:
            return
        try:
            self._process = subprocess.Popen(
                [*self._command, "-i", "-w", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:  # all goes on without
            self._process = None

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
