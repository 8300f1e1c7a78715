"""Notices within seconds that the model is slower than speech, and says which recipe would fit."""

import re
from collections import deque

from moshi_mlx.clock import FRAME_MS
from moshi_mlx.weights.recipes import ADVISED, KYUTAI_BITS, smaller_than

from ..events import Notice
from ..machine.verdict import recipe_that_fits

WATCH_MS = 3000.0  # of model time before a verdict
LEAST_FRAMES = 3
PUBLISHED = re.compile("moshi(ko|ka)")  # what Kyutai has in several recipes


def advice(model: str, recipe: str, step_ms: float) -> str:
    """One line: too slow, by how much, and what to do about this model (its name or folder)."""
    slow = f"too slow: {step_ms:.0f} ms for each frame of {FRAME_MS:.0f} ms, speech breaks up"
    if smaller_than(recipe) is None:
        return f"{slow}. Fewer bits would be quicker (`moshi quantize`), and see `moshi doctor`"
    bits = {name: bits for bits, name in KYUTAI_BITS.items()}
    published = PUBLISHED.search(model.lower()) is not None
    among = [name for name in ADVISED if name in bits or not published]
    fit = None if model == "nano" else recipe_that_fits(recipe, step_ms, among)
    if fit is None:
        return f"{slow}. No smaller recipe would fit: close other programs, and see `moshi doctor`"
    name, expected_ms = fit
    how = f"moshi chat --bits {bits[name]}" if published else f"moshi quantize --recipe {name}"
    return f"{slow}. {name} should take {expected_ms:.0f} ms: {how}"


class PaceWatch:
    """Fed with step times; speaks up once each time the machine falls behind for good."""

    def __init__(self, model: str, recipe: str) -> None:
        self._model, self._recipe = model, recipe
        self._steps_ms: deque[float] = deque()
        self._total_ms = 0.0
        self._dropped = self._told = False

    def add(self, step_ms: float, dropped_samples: int) -> Notice | None:
        """The newest 3 s of model time decide: half of the frames over 80 ms is too slow.

        It is told once input is dropped: encoding beside the model, which sets in when the machine
        is behind by a frame, may make it keep up in spite of the frames that bring it there.
        """
        self._steps_ms.append(step_ms)
        self._total_ms += step_ms
        if self._total_ms < WATCH_MS or len(self._steps_ms) < LEAST_FRAMES:
            return None
        while self._total_ms - self._steps_ms[0] >= WATCH_MS:
            if len(self._steps_ms) <= LEAST_FRAMES:
                break
            self._total_ms -= self._steps_ms.popleft()
        median_ms = sorted(self._steps_ms)[len(self._steps_ms) // 2]
        slow = median_ms > FRAME_MS
        self._dropped = slow and (self._dropped or dropped_samples > 0)
        tell, self._told = self._dropped and not self._told, self._dropped
        return Notice("too-slow", advice(self._model, self._recipe, median_ms)) if tell else None
