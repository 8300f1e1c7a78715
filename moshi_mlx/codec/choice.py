"""Which codec costs a conversation less on this machine, measured when a model is loaded.

A codec in MLX is part of the language model's evaluation: a frame is longer by its encoder and its
decoder. One on the CPU decodes on a thread of its own beside the model's next step, so that a
frame waits for its encoder alone.
"""

import time
from collections.abc import Callable

import numpy as np

from .interface import Codec

MEASURE_SECONDS = 0.2  # per codec, after the first frame
TIMED_FRAMES = (2, 4)  # at least and at most

Clock = Callable[[], float]


def frame_seconds(codec: Codec, decodes: bool, clock: Clock = time.perf_counter) -> float:
    """The quickest of a few frames: encoding and, if `decodes`, decoding.

    The first frame is never counted: on a GPU it compiles, and everywhere it reads memory for the
    first time.
    """
    stream, frame = codec.stream(), np.zeros(codec.frame_samples, np.float32)

    def timed() -> float:
        start = clock()
        codes = stream.encode(frame)
        if decodes:
            stream.decode(codes)
        return clock() - start

    timed()
    least, most = TIMED_FRAMES
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < MEASURE_SECONDS):
        times.append(timed())
    return min(times)


def choose_codec(in_mlx: Codec, on_cpu: Codec, clock: Clock = time.perf_counter) -> Codec:
    """The one by which a frame of a conversation takes less time here, measured now."""
    mlx_s = frame_seconds(in_mlx, True, clock)
    return in_mlx if mlx_s <= frame_seconds(on_cpu, False, clock) else on_cpu
