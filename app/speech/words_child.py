"""Run as a process of its own: frames of a talk's user in, lines of JSON with his words out.

Another model on the same GPU must not end a talk with it: it may be refused memory, or crash.
stdin: records of a letter, a length (uint32, little endian) and so many bytes. b: a conversation
begins, its number; f: a frame, float32 [1920]; e: it is over, answered once its words are.
"""

import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from moshi_mlx.errors import MoshiError
from moshi_mlx.stt import TranscriptStream, Word

HEADER = struct.Struct("<cI")
BEGIN, FRAME, END = b"b", b"f", b"e"
NICE = 5  # the talk itself comes first


class Follower:
    """One conversation after the other; words are told once, as soon as they are certain."""

    def __init__(
        self, open_stream: Callable[[], TranscriptStream], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self._open_stream, self._tell = open_stream, tell
        self._stream: TranscriptStream | None = None
        self._number, self._told_until_s = 0, -1.0

    def follow(self, read: Callable[[int], bytes]) -> None:
        """Until nothing more comes. read: bytes of stdin, so many, fewer at its end only."""
        while len(header := read(HEADER.size)) == HEADER.size:
            kind, length = HEADER.unpack(header)
            self._take(kind, read(length))
        self._end()

    def _take(self, kind: bytes, data: bytes) -> None:
        if kind == FRAME and self._stream is not None:
            self._say(self._stream.push(np.frombuffer(data, np.float32)))
            if self._stream.turn_ended:  # what only the model's delay holds back
                self._say(self._stream.flush())
        elif kind in (BEGIN, END):
            self._end()
            if kind == BEGIN:
                self._number, self._told_until_s = int(data), -1.0
                self._stream = self._open_stream()

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._say(stream.finish())
            self._tell({"over": self._number})

    def _say(self, words: Sequence[Word]) -> None:
        """Words of a flush come again once they are certain."""
        for word in words:
            if word.start_s > self._told_until_s:
                self._told_until_s = word.start_s
                self._tell({"conversation": self._number, "word": word.text, "at": word.start_s})


def main(folder: str) -> None:
    """folder: of the model."""
    os.nice(NICE)
    try:
        from moshi_mlx.stt import load_stt

        transcriber = load_stt(folder)
        Follower(transcriber.stream, tell).follow(sys.stdin.buffer.read)
    except MoshiError as error:
        tell({"failed": str(error)})
    except BrokenPipeError:  # the talk has gone
        pass


def tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
