"""Writing down what a microphone hears, as it is said: words as they come, a line for each turn."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.stt import Transcript, TranscriptStream, Word

from ..audio.stream.port import EndOfInput, Port
from .lateness import Lateness
from .turn_text import TurnText

WAIT_S = 0.2  # for a frame, between two looks whether to stop
SAVE_EVERY_S = 30.0


class Listening:
    """One speaker's sound, until it ends or `stop` is set; all of it on the caller's thread."""

    def __init__(
        self,
        port: Port,
        stream: TranscriptStream,
        show: Callable[[str], None],
        tell: Callable[[str], None],
        save: Callable[[Transcript], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """show: text as it comes, turns end with a new line; tell: what goes wrong, a line each;
        save: the transcript so far, at ends of turns and before the last words are waited for."""
        self._port, self._stream = port, stream
        self._show, self._save, self._clock = show, save, clock
        self._lateness = Lateness(tell)
        self._turn = TurnText()
        self._saved_s = clock()

    def run(self, stop: threading.Event) -> Transcript:
        """What was said, once nobody listens any more."""
        self._port.flush()
        try:
            while not stop.is_set():
                capture = self._port.read(WAIT_S)
                if capture is not None:
                    self._lateness.check(len(capture.mic) / SAMPLE_RATE_HZ)
                    self._hear(capture.mic)
        except EndOfInput:
            pass
        if (so_far := self._stream.transcript()).text:  # a busy machine may have no time for more
            self._save(so_far)
        self._end_turn(self._stream.finish())
        return self._stream.transcript()

    def _hear(self, pcm: np.ndarray) -> None:
        stream = self._stream
        words = stream.push(pcm)
        if text := self._turn.push(words, stream.pending, stream.pending_start_s, stream.leading):
            self._show(text)
        if stream.turn_ended:
            self._end_turn(stream.flush())
            if self._clock() - self._saved_s >= SAVE_EVERY_S:
                self._saved_s = self._clock()
                self._save(stream.transcript())

    def _end_turn(self, words: Sequence[Word]) -> None:
        begun = self._turn.begun
        text = self._turn.end(words)
        if text or begun:
            self._show(f"{text}\n")
