"""Looking into a frame: stopwatches at the parts of a conversation, off in every other frame."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.codec.cpu_threads import Ahead, Pcm
from moshi_mlx.codec.interface import CodecState, CodecStream
from moshi_mlx.lm.generator import Forced, LmGenerator, Step
from moshi_mlx.session.codec_beside import CodecBeside
from moshi_mlx.session.path import path_for

Stamp = tuple[str, float, float]  # stage, start and end in seconds of `perf_counter`


@dataclass
class Stopwatch:
    """Collects the stamps of the frame under way while it is `on`."""

    on: bool = False
    stamps: list[Stamp] = field(default_factory=list)
    _since_s: float = 0.0

    def start(self, on: bool = True) -> None:
        self.on, self.stamps, self._since_s = on, [], time.perf_counter()

    def lap(self, stage: str) -> None:
        """What has passed since the start, or since the last lap, was this."""
        before, self._since_s = self._since_s, time.perf_counter()
        self.stamps.append((stage, before, self._since_s))

    def stamp(self, stage: str) -> "_Span":
        """Times what runs within; costs two readings of the clock."""
        return _Span(self, stage)


class _Span:
    def __init__(self, watch: Stopwatch, stage: str) -> None:
        self._watch, self._stage = watch, stage

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._watch.stamps.append((self._stage, self._start_s, time.perf_counter()))


class TimedStream:
    """A codec's stream whose calls are stamped; part by part, so it is in no graph."""

    graph = None

    def __init__(self, inner: CodecStream, watch: Stopwatch) -> None:
        self._inner, self._watch = inner, watch

    def encode(self, frame: np.ndarray) -> np.ndarray:
        with self._watch.stamp("encode"):
            return self._inner.encode(frame)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        with self._watch.stamp("decode"):
            return self._inner.decode(codes)

    def state(self) -> CodecState:
        return self._inner.state()


class TimedGenerator:
    """A generator whose steps are stamped."""

    def __init__(self, inner: LmGenerator, watch: Stopwatch) -> None:
        self._inner, self._watch = inner, watch

    @property
    def steps(self) -> int:
        return self._inner.steps

    def step(self, user_codes: np.ndarray, forced: Forced | None = None) -> Step:
        with self._watch.stamp("lm"):
            return self._inner.step(user_codes, forced)

    def warm_up(self) -> None:
        self._inner.warm_up()


class WatchedPath:
    """The path that a talk takes, and the same conversation part by part while the watch is on."""

    encodes_ahead = decodes_behind = False

    def __init__(
        self, watch: Stopwatch, generator: LmGenerator, stream: CodecStream, user_q: int
    ) -> None:
        self._watch, self._plain = watch, path_for(generator, stream, user_q)
        timed = TimedGenerator(generator, watch), TimedStream(stream, watch)
        self._parts = CodecBeside(*timed, user_q)

    def warm_up(self) -> None:
        self._plain.warm_up()
        self._parts.warm_up()

    def step(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> tuple[Step, Pcm]:
        return (self._parts if self._watch.on else self._plain).step(frame, forced)

    def step_early(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> tuple[Step, Future[Pcm]]:
        return (self._parts if self._watch.on else self._plain).step_early(frame, forced)

    def end_prompt(self, codes: np.ndarray) -> Step:
        return self._plain.end_prompt(codes)

    def rest(self) -> Ahead:
        return self._plain.rest()

    def restore(self, ahead: Ahead) -> None:
        self._plain.restore(ahead)

    def close(self) -> None:
        self._plain.close()
        self._parts.close()
