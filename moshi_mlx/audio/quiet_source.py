"""Sound files read without what libsndfile's MP3 decoder writes to stderr by itself.

mpg123 tells the terminal of every frame that it can't decode, as C code does: on descriptor 2.
For the length of a call into libsndfile that descriptor is a file; what others wrote meanwhile
goes on to where it was meant to go. One call at a time, in all threads.
"""

import fcntl
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

STDERR = 2
MP3 = "MP3"
MPG123 = re.compile(rb"\[\S+\.c:\S+\] (error|warning): |Note: |Warning: ")
HARMLESS = re.compile(rb"Warning: Xing stream size off")  # a file cut between two frames, too
_turn = threading.RLock()


class QuietSource(soundfile.SoundFile):
    """A sound file opened for reading, its samples read by `block`.

    `damaged`: what can't be decoded was left out of an MP3 file, until now. Raises as SoundFile,
    and OSError.
    """

    def __init__(self, file: Any) -> None:
        """`file`: a path, whose ending says nothing (SoundFile takes a name like x.raw at its
        word), a descriptor or an open file."""
        self.damaged = False
        if isinstance(file, str | Path):
            file = os.open(file, os.O_RDONLY)
        with self._quiet():
            super().__init__(file)

    def block(self, samples: int) -> np.ndarray:
        """The next float32 [samples, channels], less at the end, none behind it."""
        if self.format != MP3:
            return np.asarray(self.read(samples, dtype="float32", always_2d=True), np.float32)
        with self._quiet():
            return np.asarray(self.read(samples, dtype="float32", always_2d=True), np.float32)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with _turn, stderr_lines() as lines:
            yield
        self.damaged |= any(MPG123.match(line) and not HARMLESS.match(line) for line in lines)


@contextmanager
def stderr_lines() -> Iterator[list[bytes]]:
    """What is written to descriptor 2 in the block, as lines, once the block is over; those that
    aren't the decoder's are passed on then."""
    lines: list[bytes] = []
    with ExitStack() as stack:
        try:
            caught = stack.enter_context(tempfile.TemporaryFile())
            meant = os.dup(STDERR)
        except OSError:  # no folder for it, or a program that has closed its stderr
            yield lines
            return
        stack.callback(os.close, meant)
        if fcntl.fcntl(meant, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            yield lines  # closed, and another file has its number: the sound itself, it may be
            return
        os.dup2(caught.fileno(), STDERR)
        try:
            yield lines
        finally:
            os.dup2(meant, STDERR)
            caught.seek(0)
            lines += caught.read().splitlines(keepends=True)
            for line in lines:
                if line.strip() and not MPG123.match(line):
                    os.write(meant, line)
