"""Keeps a Mac from falling asleep by itself while a talk goes on."""

import os
import subprocess
import sys


class KeepAwake:
    """`start` and `stop` around a talk; nothing to do but on macOS.

    `caffeinate -i` prevents idle sleep only (the lid still works) and `-w` ends it with us, so that
    not even a crash leaves a Mac that never sleeps.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if sys.platform != "darwin" or self._process is not None:
            return
        try:
            self._process = subprocess.Popen(
                ["caffeinate", "-i", "-w", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:  # the talk is possible without
            self._process = None

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait()
