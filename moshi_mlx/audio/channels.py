"""From what a recording holds to one channel that can be heard, telling what had to be mended."""

from collections.abc import Callable

import numpy as np

from .finite import finite

LOUD = 8.0  # beyond any overshoot of a decoder: samples in the range of integers, or damage
INTEGER_RANGES = (2.0**15, 2.0**23, 2.0**31)
CANCELLED = 0.25  # -12 dB: the mean of channels is this much quieter than the loudest of them
SILENCE = 1e-4


def one_channel(samples: np.ndarray, rate_hz: int, tell: Callable[[str], None]) -> np.ndarray:
    """float32 [samples, channels] -> [samples] within +-LOUD, finite; `tell` gets a line for each.

    Samples that are no numbers are silence, sound in the range of integers is brought to +-1, and
    where channels cancel each other out, the louder one is taken.
    """
    samples = _in_range(_numbers(samples, rate_hz, tell), tell)
    mono = samples.mean(axis=1)
    if samples.shape[1] == 1:
        return mono
    levels = np.sqrt(np.mean(np.square(samples, dtype=np.float64), axis=0))
    loudest = int(levels.argmax())
    level = float(np.sqrt(np.mean(np.square(mono, dtype=np.float64))))
    if levels[loudest] > SILENCE and level < CANCELLED * levels[loudest]:
        tell(f"the channels cancel each other out: channel {loudest + 1} alone is listened to")
        return np.ascontiguousarray(samples[:, loudest])
    return mono


def _numbers(samples: np.ndarray, rate_hz: int, tell: Callable[[str], None]) -> np.ndarray:
    good = np.isfinite(samples)
    if good.all():
        return samples
    bad = np.flatnonzero(~good.all(axis=1))
    tell(
        f"{len(bad)} samples are no numbers (NaN or infinite), the first at "
        f"{bad[0] / rate_hz:.2f} s: taken as silence"
    )
    return finite(samples)


def _in_range(samples: np.ndarray, tell: Callable[[str], None]) -> np.ndarray:
    level = np.abs(samples)
    peak = float(level.max(initial=0))
    if peak <= LOUD:
        return samples
    usual = float(np.quantile(level, 0.99))
    if usual <= 1:  # a click here and there
        tell(f"samples of up to {peak:.3g} are beyond full scale (1): cut off")
        return np.clip(samples, -1, 1)
    full = next((full for full in INTEGER_RANGES if peak <= full), peak)
    tell(f"its samples reach {peak:.3g} where full scale is 1: divided by {full:.6g}")
    return samples / np.float32(full)
