"""No frame pays for a trace, an allocation or growth: spikes that repeat, and an hour of frames.

Times are compared with times of the same run only.
"""

import gc
import time
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.compiled_step import FUNCTIONS_KEPT
from moshi_mlx.lm.generator import LmGenerator
from moshi_mlx.lm.model import Lm
from moshi_mlx.lm.sampling import samplers
from tests.support.models.bench_shapes import SMALL
from tests.support.process_memory import resident_bytes

CONTEXT = 500


@pytest.fixture(scope="module")
def lm() -> Lm:
    """Random, tiny, and of a context that is full after 40 s."""
    return random_lm(parse_config(SMALL | {"card": 256, "context": CONTEXT}, "tiny"), "fp32")


def frame_times_s(generator: LmGenerator, frames: int) -> np.ndarray:
    """Seconds of each of `frames` steps."""
    config = generator.lm.config
    user = np.random.default_rng(0).integers(0, config.card, (64, config.user_q))
    times = np.empty(frames)
    for i in range(frames):
        start = time.perf_counter()
        generator.step(user[i % 64])
        times[i] = time.perf_counter() - start
    return times


def test_ways_of_sampling_that_nobody_uses_again_do_not_pile_up(lm: Lm) -> None:
    """The newest are kept: a step that was traced is traced once."""
    tops, plain = range(1, FUNCTIONS_KEPT + 2), lm.config.sampling
    ways = [samplers(replace(plain, audio_top_k=top)) for top in tops]
    made = [lm.functions.of(way) for way in ways]
    for way, one in list(zip(ways, made, strict=True))[1:]:
        assert lm.functions.of(way) is one
    assert lm.functions.of(ways[0]) is not made[0]


@pytest.mark.long
def test_no_spike_repeats(lm: Lm) -> None:
    """Frames 200 to 4,000 of a talk: p99.9 of the frame-by-frame minimum of three runs.

    On a machine with more processes than cores three runs are interrupted at the same frame now
    and then; what the program itself does at a frame it does in every run, so more runs may help
    only the innocent.
    """
    lm.generator(seed=0).warm_up()
    least, ratio = np.full(3800, np.inf), np.inf
    for run in range(1, 10):
        least = np.minimum(least, frame_times_s(lm.generator(seed=0), 4000)[200:])
        ratio = np.quantile(least, 0.999) / np.median(least)
        if run >= 3 and ratio <= 3:
            break
    print(f"p99.9 / median {ratio:.2f}, largest {least.max() / np.median(least):.2f}, {run} runs")
    assert ratio <= 3


@pytest.mark.long
def test_an_hour_of_frames_is_as_fast_at_its_end_and_as_small(lm: Lm) -> None:
    """45,000 frames: the last tenth against the first that see a full context."""
    generator = lm.generator(seed=0)
    generator.warm_up()
    frame_times_s(generator, CONTEXT)
    first, memory = frame_times_s(generator, 4500), sizes()
    frame_times_s(generator, 45_000 - CONTEXT - 9000)
    last = frame_times_s(generator, 4500)
    ratio = np.median(last) / np.median(first)
    growth = [b / a for a, b in zip(memory, sizes(), strict=True) if a]
    print(f"last / first {ratio:.3f}, memory MLX {growth[0]:.4f}, process {growth[-1]:.4f}")
    assert ratio <= 1.1
    assert all(0.98 <= g <= 1.02 for g in growth)


def sizes() -> tuple[int, int]:
    """Bytes held by MLX and, on Linux, by the process."""
    gc.collect()
    return mx.get_active_memory(), resident_bytes() or 0
