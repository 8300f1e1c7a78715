"""Running figures of a session: step times and levels."""

from collections import deque

import numpy as np

from moshi_mlx.audio.levels import SILENCE_DB

WINDOW_FRAMES = 125  # 10 s


def peak_db(pcm: np.ndarray | None) -> float:
    """Peak of samples [n] in dBFS; SILENCE_DB for none or digital silence."""
    peak = 0.0 if pcm is None else float(np.max(np.abs(pcm), initial=0.0))
    return max(SILENCE_DB, 20.0 * float(np.log10(peak))) if peak > 0.0 else SILENCE_DB


class StepTimes:
    """Percentiles of the newest step times."""

    def __init__(self, window: int = WINDOW_FRAMES) -> None:
        self._ms: deque[float] = deque(maxlen=window)

    def add(self, step_ms: float) -> None:
        self._ms.append(step_ms)

    def percentile(self, percent: float) -> float:
        """0.0 before the first step."""
        if not self._ms:
            return 0.0
        ordered = sorted(self._ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100.0))]
