"""Will it keep up: 80 ms a frame against what was measured, or against what the floor promises."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moshi_mlx.clock import FRAME_MS
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.weights import frame_cost
from moshi_mlx.weights.recipes import ADVISED, RECIPES, smaller_than

RESERVE_MS = 8.0  # a frame that takes longer than 72 ms in 1 of 20 cases has no room for a hiccup
# What Macs add to the floor, as people measured it on M1 Pro to M5 Max (codec included).
LEAST_OVERHEAD_MS, MOST_OVERHEAD_MS = 18.0, 47.0
MIMI_BYTES = 385_000_000  # the file, fp32; all of it lies in memory
RUSTYMIMI_BYTES = 2_180_440_000  # in place of it, in a long talk: codec/rust.py, which needs MLX
RUNTIME_BYTES = 700_000_000  # Python, MLX's buffers and activations
YES, TIGHT, NO = "yes", "tight", "no"
FIXED_MS = 15.0  # codec and overhead: the part that no recipe changes
ROOM_MS = 4.0  # headroom a recipe must leave to be recommended


@dataclass(frozen=True)
class Verdict:
    """`answer` is YES, TIGHT or NO; `headroom_ms` is what is left of 80 ms (below 0: missing)."""

    recipe: str
    answer: str
    headroom_ms: float
    measured: bool = True

    def __str__(self) -> str:
        about = "" if self.measured else "about "
        ms = abs(self.headroom_ms)
        room = about + (f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s")
        if self.answer == YES:
            return f"{self.recipe}: yes, {room} of headroom"
        if self.answer == TIGHT:
            return f"{self.recipe}: tight, {room} " + ("left" if self.headroom_ms >= 0 else "over")
        return f"{self.recipe}: no, {room} too slow"


def of_measured(
    recipe: str, p50_ms: float, p95_ms: float, mean_ms: float = 0.0, hot_ms: float = 0.0
) -> Verdict:
    """NO: lag would grow without end, since the typical frame is late, or they are on average, or
    those of the last minute of a long run (`hot_ms`). TIGHT: 1 in 20 leaves less than the reserve.
    """
    worst_ms = max(p50_ms, mean_ms, hot_ms)
    if worst_ms > FRAME_MS:
        return Verdict(recipe, NO, FRAME_MS - worst_ms)
    return Verdict(recipe, YES if p95_ms <= FRAME_MS - RESERVE_MS else TIGHT, FRAME_MS - p95_ms)


def of_predicted(recipe: str, frame_ms: float) -> Verdict:
    """A typical frame that was computed from measurements of a part of the model."""
    answer = NO if frame_ms > FRAME_MS else YES if frame_ms <= FRAME_MS - RESERVE_MS else TIGHT
    return Verdict(recipe, answer, FRAME_MS - frame_ms, measured=False)


def of_floor(recipe: str, floor_ms: float) -> Verdict:
    """An estimate before anything ran: the floor and the overhead that Macs have on top of it."""
    best, worst = floor_ms + LEAST_OVERHEAD_MS, floor_ms + MOST_OVERHEAD_MS
    answer = NO if best > FRAME_MS else YES if worst <= FRAME_MS else TIGHT
    expected = best if answer == NO else (best + worst) / 2
    return Verdict(recipe, answer, FRAME_MS - expected, measured=False)


def summary(verdicts: Iterable[Verdict]) -> str:
    """ "q4: yes, 31 ms of headroom; q8: no, 12 ms too slow"."""
    return "; ".join(map(str, verdicts))


def memory_need_bytes(config: LmConfig, recipe: str) -> int:
    """What a conversation of any length holds in memory: weights, full context, codec, runtime."""
    weights = frame_cost.model_bytes(config, RECIPES[recipe])
    return weights + frame_cost.kv_bytes(config) + MIMI_BYTES + RUNTIME_BYTES


def download_bytes(config: LmConfig, recipe: str) -> int:
    """Weights and codec (the tokenizer is half a megabyte)."""
    return frame_cost.model_bytes(config, RECIPES[recipe]) + MIMI_BYTES


def frame_bytes(config: LmConfig, recipe: str, history_frames: int | None = None) -> int:
    """What a frame reads; `history_frames` None: after four minutes, when the context is full."""
    weights = frame_cost.weight_bytes_per_frame(config, RECIPES[recipe])
    return weights + frame_cost.kv_bytes(config, history_frames)


def recipe_that_fits(
    recipe: str, step_ms: float, among: Sequence[str] = ADVISED
) -> tuple[str, float] | None:
    """The best smaller recipe expected to keep up and its step time; None when none would.

    What a step takes beyond the fixed part goes with the bytes that the 7B reads in a frame.
    """
    config = parse_config(raw_preset("moshi-7b"))
    fixed_ms = min(FIXED_MS, step_ms / 2)
    for other in smaller_than(recipe, among) or ():
        here, there = (
            frame_cost.weight_bytes_per_frame(config, RECIPES[name]) for name in (recipe, other)
        )
        expected_ms = fixed_ms + (step_ms - fixed_ms) * there / here
        if expected_ms < FRAME_MS - ROOM_MS:
            return other, expected_ms
    return None
