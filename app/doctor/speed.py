"""Five seconds of benchmark: parts of the 7B with random weights, and what they say of the whole.

Three small models are timed: one temporal layer and one depth slice; two layers more; two slices
more. The differences give the cost of a layer and of a slice, and 32 layers and 8 slices the frame.
It runs in a process of its own (`measure`), since MLX can end the one that it fails in.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from moshi_mlx.clock import FRAME_MS, FRAME_SECONDS
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.weights import frame_cost
from moshi_mlx.weights.recipes import ADVISED, RECIPES

from ..machine import readers, verdict
from ..machine.verdict import Verdict

RECIPE = "q4"
FORECAST = ADVISED[::-1]  # the smallest first
PHASE_S = 1.0  # for each model and the codec, after the first frame
MOST_FRAMES = 40
HOPELESS_MS = 160.0  # one layer and one slice that take two frames' time: no second look
SHAPES = ((1, 1), (3, 1), (1, 3))  # temporal layers, depth slices
PACED_FRAMES = 20  # 1.6 s
TIMEOUT_S = 22.0  # a cold start compiles every kernel first


@dataclass(frozen=True)
class Speed:
    """Milliseconds of one frame's parts at q4, and of the whole 7B computed from them."""

    layer_ms: float
    slice_ms: float
    rest_ms: float  # embeddings, text head, sampling, host
    codec_ms: float
    frames: int  # timed in all
    paced_ratio: float = 1.0  # how much longer a step takes with a talk's pauses between frames

    @property
    def lm_ms(self) -> float:
        config = seven_b()
        layers, slices = config.transformer.num_layers, config.dep_q
        return layers * self.layer_ms + slices * self.slice_ms + self.rest_ms

    @property
    def bandwidth_gb_s(self) -> float:
        """What the layers reached: their bytes by their time."""
        per_layer = frame_cost.weight_bytes_per_frame(shape_of_7b(1, 0), RECIPES[RECIPE])
        head = frame_cost.weight_bytes_per_frame(shape_of_7b(0, 0), RECIPES[RECIPE])
        return (per_layer - head) / max(self.layer_ms, 1e-6) / 1e6

    def frame_ms(self, recipe: str, history_frames: int | None = None) -> float:
        """A frame of the 7B; the bytes that q4 doesn't read cost what its own bytes did."""
        config = seven_b()
        extra = verdict.frame_bytes(config, recipe, history_frames)
        extra -= frame_cost.weight_bytes_per_frame(config, RECIPES[RECIPE])
        together_ms = self.lm_ms + self.codec_ms
        return self.paced_ratio * (together_ms + frame_cost.floor_ms(extra, self.bandwidth_gb_s))

    @property
    def verdicts(self) -> list[Verdict]:
        """At full context, after four minutes of talk."""
        return [verdict.of_predicted(r, self.frame_ms(r)) for r in FORECAST]

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "recipe": RECIPE,
            "bandwidth_gb_s": self.bandwidth_gb_s,
            "predicted_frame_ms": {r: self.frame_ms(r) for r in FORECAST},
            "verdicts": {v.recipe: v.answer for v in self.verdicts},
        }


def measure() -> Speed | None:
    """Time it in a child process; None where that ended or took too long."""
    answer = readers.ask_child("doctor.speed", timeout_s=TIMEOUT_S)
    return None if answer is None else Speed(**answer)


def seven_b() -> LmConfig:
    return parse_config(raw_preset("moshi-7b"))


def shape_of_7b(layers: int, slices: int) -> LmConfig:
    """The 7B with fewer layers and depth slices, at full width."""
    config = seven_b()
    assert config.depth is not None
    inner = config.depth.transformer
    depth = replace(
        config.depth,
        schedule=tuple(range(slices)),
        transformer=replace(inner, hidden=inner.hidden[:slices]),
    )
    return replace(
        config,
        transformer=replace(config.transformer, num_layers=layers),
        depth=depth if slices else None,
        n_q=config.user_q + slices,
        delays=config.delays[: 1 + config.user_q + slices],
    )


def _typical_ms(run: Callable[[], object]) -> tuple[float, int]:
    """Median time of a call after the first one, and how many were timed."""
    times: list[float] = []
    start = time.perf_counter()
    end = start + PHASE_S
    while len(times) < 2 or (start < end and len(times) < MOST_FRAMES):
        run()
        times.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
    return statistics.median(times[1:] or times), len(times)


def paced_ratio(run: Callable[[], object], back_to_back_ms: float, frame_ms: float) -> float:
    """How much longer a call takes where calls for one frame's time alternate with pauses.

    As in a talk: `frame_ms` of work in each 80 ms. An Apple GPU that pauses is slower afterwards.
    """
    calls = max(1, round(frame_ms / back_to_back_ms))
    times, due_s = [], time.perf_counter()
    for _ in range(PACED_FRAMES):
        time.sleep(max(0.0, due_s - time.perf_counter()))
        start_s = time.perf_counter()
        for _ in range(calls):
            run()
        times.append(1000 * (time.perf_counter() - start_s) / calls)
        due_s = max(due_s + FRAME_SECONDS, time.perf_counter())
    return max(1.0, statistics.median(times) / back_to_back_ms)


def _stepper(layers: int, slices: int, dtype: str, pool: dict) -> Callable[[], object]:
    import numpy as np

    from ..machine.random_model import random_lm

    config = shape_of_7b(layers, slices)
    generator = random_lm(config, RECIPE, dtype, pool=pool).generator(seed=0)
    codes = np.zeros(config.user_q, np.int32)
    return lambda: generator.step(codes)


def _lm_ms(layers: int, slices: int, dtype: str, pool: dict) -> tuple[float, int]:
    return _typical_ms(_stepper(layers, slices, dtype, pool))


def _codec_ms(compiled: bool) -> tuple[float, int]:
    import numpy as np

    from moshi_mlx.mimi.config import KYUTAI

    from ..machine.random_model import random_mimi

    stream = random_mimi(KYUTAI, compiled=compiled).stream()
    pcm = np.zeros(KYUTAI.frame_samples, np.float32)
    stream.decode(stream.encode(pcm))  # traces and compiles
    return _typical_ms(lambda: stream.decode(stream.encode(pcm)))


def _hopeless(one_ms: float) -> Speed:
    """From the first model alone: its time spread over its parts by the bytes they read."""
    of = [
        frame_cost.weight_bytes_per_frame(shape_of_7b(*shape), RECIPES[RECIPE]) for shape in SHAPES
    ]
    layer, depth = (of[1] - of[0]) / 2, (of[2] - of[0]) / 2
    per_byte = one_ms / of[0]
    return Speed(layer * per_byte, depth * per_byte, one_ms - (layer + depth) * per_byte, 0.0, 1)


def _pace(frame_ms: float, dtype: str, pool: dict) -> float:
    step = _stepper(*SHAPES[1], dtype, pool)
    back_to_back_ms, _ = _typical_ms(step)
    return paced_ratio(step, back_to_back_ms, frame_ms)


def time_parts(
    gpu: bool,
    lm_ms: Callable[[int, int, str, dict], tuple[float, int]] = _lm_ms,
    codec_ms: Callable[[bool], tuple[float, int]] = _codec_ms,
    pace: Callable[[float, str, dict], float] = _pace,
) -> Speed:
    """Time the three models and the codec, as far as the first one leaves hope.

    gpu: as a GPU runs them.
    """
    from ..machine.random_model import activations_on

    dtype = activations_on(gpu)
    pool: dict = {}
    one, a = lm_ms(*SHAPES[0], dtype, pool)
    if one > HOPELESS_MS:
        return _hopeless(one)
    (layers, b), (slices, c) = (lm_ms(*shape, dtype, pool) for shape in SHAPES[1:])
    codec, d = codec_ms(gpu)
    layer, depth = max(0.0, (layers - one) / 2), max(0.0, (slices - one) / 2)
    found = Speed(layer, depth, max(0.0, one - layer - depth), codec, a + b + c + d)
    frame_ms = found.lm_ms + codec
    if frame_ms >= FRAME_MS:  # there won't be a pause
        return found
    return replace(found, paced_ratio=pace(frame_ms, dtype, pool))


def main() -> None:
    import mlx.core as mx

    from moshi_mlx.backend.device import on_gpu

    gpu = on_gpu()
    if not gpu:
        mx.disable_compile()  # there it would call a C++ compiler for many seconds
    print(json.dumps(asdict(time_parts(gpu))))


if __name__ == "__main__":
    main()
