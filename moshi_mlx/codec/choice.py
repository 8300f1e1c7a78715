"""Which codec is the fastest on this machine, measured when a model is loaded."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from .interface import Codec

MEASURE_SECONDS = 0.2  # per codec


def frame_seconds(codec: Codec, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median time to encode and decode a frame, after one to warm up, in at most 3 frames.

    A codec whose first frame takes longer than `MEASURE_SECONDS` is judged by that.
    """
    stream, frame = codec.stream(), np.zeros(codec.frame_samples, np.float32)

    def timed() -> float:
        start = clock()
        stream.decode(stream.encode(frame))
        return clock() - start

    if (first := timed()) > MEASURE_SECONDS:
        return first
    times: list[float] = []
    while len(times) < 3 and sum(times) < MEASURE_SECONDS:
        times.append(timed())
    return median(times)


def choose_codec(codecs: Sequence[Codec], clock: Callable[[], float] = time.perf_counter) -> Codec:
    """The fastest of `codecs` on this machine, measured now (well under a second for two)."""
    return min(codecs, key=lambda codec: frame_seconds(codec, clock))
