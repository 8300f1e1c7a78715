"""What a microphone hears, translated while it is said: heard at once, its text as it comes."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from moshi_mlx.stt.turns import EndOfTurn
from moshi_mlx.translation import TranslatedFrame, TranslationStream

from ..audio.stream.port import EndOfInput, Port
from ..echo.choice import Clean
from .lateness import Lateness

WAIT_S = 0.2  # for a frame, between two looks whether to stop
Keep = Callable[[np.ndarray, TranslatedFrame], None]


class Translating:
    """One speaker's sound, until it ends or `run` is asked to; all of it on the caller's thread."""

    def __init__(
        self,
        port: Port,
        stream: TranslationStream,
        clean: Clean | None,
        show: Callable[[str], None],
        tell: Callable[[str], None],
        keeps: Sequence[Keep],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """clean: takes the loudspeaker's sound out of the microphone's; show: text as it comes, a
        pause ends a line; tell: what goes wrong, a line each; keeps: take what was heard, float32
        [1920], beside each frame of the translation (the same moment of both, as in a file)."""
        self._port, self._stream, self._clean = port, stream, clean
        self._show, self._keeps, self._sleep = show, keeps, sleep
        self._lateness, self._pause = Lateness(tell), EndOfTurn()
        self._heard = np.zeros(0, np.float32)  # what the translation is still to come of
        self._line_open = False

    def run(self, end: threading.Event, cut: threading.Event) -> None:
        """Until the sound ends or `end` is set: then the rest of the translation is said, unless
        `cut` is set too."""
        self._port.flush()
        try:
            while not end.is_set():
                capture = self._port.read(WAIT_S)
                if capture is not None:
                    self._lateness.check(len(capture.mic) / SAMPLE_RATE_HZ)
                    mic = capture.mic
                    self._hear(mic if self._clean is None else self._clean(mic, capture.played))
        except EndOfInput:
            pass
        if not cut.is_set():
            self._finish(cut)
        if self._line_open:
            self._show("\n")

    def _finish(self, cut: threading.Event) -> None:
        """The rest, at the pace of a microphone, for which the loudspeaker's buffer is made."""
        due_s = self._port.now()
        for frame in self._stream.finish():
            self._take(frame)
            due_s += FRAME_SECONDS
            self._wait_until(due_s, cut)
            if cut.is_set():
                return
        self._wait_until(self._port.now() + self._port.buffered_s(), cut)

    def _wait_until(self, due_s: float, cut: threading.Event) -> None:
        while (left_s := due_s - self._port.now()) > 0 and not cut.is_set():
            self._sleep(min(WAIT_S, left_s))

    def _hear(self, pcm: np.ndarray) -> None:
        self._heard = np.concatenate([self._heard, pcm])
        for frame in self._stream.push(pcm):
            self._take(frame)

    def _take(self, frame: TranslatedFrame) -> None:
        heard, self._heard = self._heard[:FRAME_SAMPLES], self._heard[FRAME_SAMPLES:]
        self._port.play(frame.pcm)
        for keep in self._keeps:
            keep(np.pad(heard, (0, FRAME_SAMPLES - len(heard))), frame)
        if frame.text:
            text = frame.text if self._line_open else frame.text.lstrip()
            self._show(text)
            self._line_open |= bool(text)
        if self._pause.push(bool(frame.text), None) and self._line_open:
            self._show("\n")
            self._line_open = False
