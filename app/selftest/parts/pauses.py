"""What a pause between frames costs, kept warm as talks do it; only an Apple GPU can tell."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.config.lm_config import LmConfig

from ...doctor.speed import RECIPE, shape_of_7b
from ...machine.facts import Facts, gather
from ...machine.random_model import random_lm
from ...talk.session import KEEP_WARM_EVERY_S
from ...talk.warmth import touch, weights_of
from ..part import PAUSES, Deviation, Fallback, Note, NotHereError
from ..site import Site

LAYERS, SLICES = 8, 1  # of the 7B in 4 bit: 0.9 GB
LEAST_FREE_BYTES = 3 * 10**9
FRAMES = 25  # 2 s
PAUSE_S, LONG_PAUSE_S = 2.0, 10.0
KEPT, LEFT = 3, 2  # pauses, kept warm and not
SLOWEST = 3.0  # times as long as usual
ADVICE = Fallback(
    "no pause: the first answer after one may come late (what does `moshi doctor` say?)"
)

TakeStep = Callable[[], object]
KeepWarm = Callable[[], None]


def layers_of_7b() -> tuple[TakeStep, KeepWarm]:
    return steps_of(shape_of_7b(LAYERS, SLICES), RECIPE)


def steps_of(config: LmConfig, recipe: str) -> tuple[TakeStep, KeepWarm]:
    """A step of a model made up, and what keeps it warm."""
    model = random_lm(config, recipe, "bfloat16")
    generator, weights = model.generator(seed=0), weights_of(model)
    codes = np.zeros(config.user_q, np.int32)
    return lambda: generator.step(codes), lambda: touch(weights)


@dataclass(frozen=True)
class PauseCheck:
    """The first frame after a pause, compared with frames at a talk's own pace."""

    make: Callable[[], tuple[TakeStep, KeepWarm]] = layers_of_7b
    gather: Callable[..., Facts] = gather
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    name: str = PAUSES
    fallback: Fallback = ADVICE

    def check(self, site: Site) -> Iterator[Deviation | Note]:
        if not site.on_gpu:
            raise NotHereError("no GPU here, and a CPU keeps what it has")
        free = self.gather((), network=False, audio=False).memory_free_bytes
        if free is not None and free < LEAST_FREE_BYTES:
            raise NotHereError(f"only {free / 1e9:.1f} GB of memory are free")
        step, keep_warm = self.make()
        paced = [self._after(FRAME_SECONDS, step) for _ in range(FRAMES)]
        usual_s, p95_s = statistics.median(paced), float(np.percentile(paced, 95))
        kept_s = statistics.median(self._after(PAUSE_S, step, keep_warm) for _ in range(KEPT))
        long_s = self._after(LONG_PAUSE_S, step, keep_warm)
        left_s = statistics.median(self._after(PAUSE_S, step) for _ in range(LEFT))
        yield Deviation("first frame after 2 s, kept warm", kept_s / usual_s, SLOWEST, "times")
        yield Note(f"at a talk's pace {1000 * usual_s:.1f} ms, p95 {1000 * p95_s:.1f}")
        yield Note(f"after 10 s {long_s / usual_s:.1f} times; not kept warm {left_s / usual_s:.1f}")

    def _after(self, pause_s: float, step: TakeStep, keep_warm: KeepWarm = lambda: None) -> float:
        """How long a step takes after a pause."""
        end_s = self.clock() + pause_s
        while (left_s := end_s - self.clock()) > 0:
            self.sleep(min(left_s, KEEP_WARM_EVERY_S))
            keep_warm()
        start_s = self.clock()
        step()
        return self.clock() - start_s
