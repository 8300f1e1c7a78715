"""The sound process that serves, and one that waits warm to take its place at once.

To start one takes a third of a second, twice that on a busy machine; a spare has that behind it.
"""

import contextlib
import os
import select
from collections.abc import Sequence

from moshi_mlx.errors import AudioError

from .process import COMMAND, SoundProcess


class Spares:
    """For one thread, but for `wake`."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Raises AudioError where no process can be made."""
        self._command = command
        self.serving = SoundProcess(command)
        self._spare: SoundProcess | None = None
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def wait(self, timeout_s: float) -> None:
        """Until one of the two says something or ends, or `wake` is called."""
        watched = [p for p in (self.serving, self._spare) if p is not None and p.ended is None]
        ready = select.select([*watched, self._woken], [], [], timeout_s)[0]
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._spare is not None:
            self._spare.messages()
            if self._spare.ended is not None:
                self._spare.kill()
                self._spare = None

    def wake(self) -> None:
        """Any thread, as long as it hasn't been closed."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b".")

    def refill(self) -> None:
        """Have a spare, from now on; where none can be started the next loss takes longer."""
        if self._spare is None:
            with contextlib.suppress(AudioError):
                self._spare = SoundProcess(self._command)

    def replace(self) -> SoundProcess:
        """Kill the one that serves; returns its successor. Raises AudioError: none can be made.

        The old one's memory stays readable for whoever holds it.
        """
        self.serving.kill()
        spare, self._spare = self._spare, None
        self.serving = spare or SoundProcess(self._command)
        return self.serving

    def close(self) -> None:
        for process in (self.serving, self._spare):
            if process is not None:
                process.kill()
        os.close(self._woken)
        os.close(self._waker)
