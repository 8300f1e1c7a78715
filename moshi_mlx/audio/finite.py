"""Silence for what is no number: one NaN in a stream spoils a codec or a filter for minutes."""

import numpy as np


def finite(pcm: np.ndarray) -> np.ndarray:
    """Float samples with 0 for NaN and infinities; the same array where there is none."""
    good = np.isfinite(pcm)
    return pcm if good.all() else np.where(good, pcm, pcm.dtype.type(0))
