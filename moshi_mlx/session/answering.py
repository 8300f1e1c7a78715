"""A whole recording through a session: Moshi's side of it, in step with the user's.

Shapes: n samples at 24 kHz.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..clock import FRAME_SAMPLES, FRAME_SECONDS
from ..codec.cpu_threads import DECODING_MAX, Pcm
from ..text.word import SpokenWords, Word, beginning

ANSWER_TAIL_S = 4.0  # silence after a recording, so that the answer isn't cut off
ANSWER_TAIL_MAX_S = 3600.0


@dataclass(frozen=True, eq=False)
class Answer:
    """Moshi's side of a recording: sample m of it sounds while sample m of the recording is heard.

    pcm: float32 [n], as long as the recording and its tail; words: with their times in it; aligned:
    float32 [n, 2], the recording left and Moshi right; took_s: from the first frame to the last.
    """

    pcm: np.ndarray
    words: tuple[Word, ...]
    aligned: np.ndarray
    seed: int
    took_s: float

    @property
    def text(self) -> str:
        """All that Moshi said."""
        return " ".join(word.text for word in self.words)

    def __repr__(self) -> str:
        seconds = len(self.pcm) * FRAME_SECONDS / FRAME_SAMPLES
        return f"<Answer of {seconds:.1f} s, {len(self.words)} words: {beginning(self.text)!r}>"


class EarlySteps(Protocol):
    """What `step_early` gives."""

    @property
    def text(self) -> str: ...
    @property
    def sound(self) -> "Future[Pcm]": ...


class Steps(Protocol):
    """What is needed of a session."""

    @property
    def seed(self) -> int: ...
    def warm_up(self) -> None: ...
    def step_early(self, pcm: np.ndarray, *, following: np.ndarray | None = None) -> EarlySteps: ...


def answer_recording(
    session: Steps, heard: np.ndarray, on_frame: Callable[[int, int], None]
) -> Answer:
    """A new session over float32 [n]; `on_frame(done, of)` after each frame.

    One frame of silence goes first, since the model ignores a session's first frame, and is taken
    out of the alignment.
    """
    frames = -(-len(heard) // FRAME_SAMPLES)
    padded = np.zeros((frames + 1) * FRAME_SAMPLES, np.float32)
    padded[FRAME_SAMPLES : FRAME_SAMPLES + len(heard)] = heard
    blocks, said = padded.reshape(-1, FRAME_SAMPLES), np.zeros_like(padded)
    rows = said.reshape(-1, FRAME_SAMPLES)
    session.warm_up()  # a top-k of its own has a step of its own
    started_s = time.perf_counter()
    reader, words = SpokenWords(), []
    decoding: deque[tuple[np.ndarray, Future[Pcm]]] = deque()
    for i, block in enumerate(blocks):
        reply = session.step_early(block, following=blocks[i + 1] if i < frames else None)
        words += reader.push(max(i - 1, 0) * FRAME_SECONDS, reply.text)
        decoding.append((rows[i], reply.sound))
        if len(decoding) > DECODING_MAX:
            _keep(*decoding.popleft())
        on_frame(i + 1, frames + 1)
    for row, sound in decoding:
        _keep(row, sound)
    took_s = time.perf_counter() - started_s
    pcm = said[FRAME_SAMPLES:][: len(heard)]
    words += reader.finish()
    return Answer(pcm, tuple(words), np.stack([heard, pcm], axis=1), session.seed, took_s)


def _keep(row: np.ndarray, sound: "Future[Pcm]") -> None:
    """Wait for a frame's sound, into `row` [1920]; none while the delays fill."""
    pcm = sound.result()
    if pcm is not None:
        row[:] = pcm
