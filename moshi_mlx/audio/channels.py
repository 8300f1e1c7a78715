"""From what a recording holds to one channel that can be heard, telling what had to be mended."""

from collections.abc import Callable

import numpy as np

from .finite import finite

OVERSHOOT = 2.0  # decoders go a little beyond full scale, never that far
CLICKS = 1e-3  # the share of samples beyond full scale up to which they are damage, not loudness
CREST = 4.0  # what goes so far beyond nearly all other samples is damage, too
# Peaks of sound in the range of integers: from, full scale. Filtered, it may go a little beyond.
INTEGER_RANGES = tuple(
    (full / (8 if full < 256 else 64), full) for full in (2.0**7, 2.0**15, 2.0**23, 2.0**31)
)
OFF_CENTRE, OFF_CENTRE_S = 0.02, 0.1  # shorter sound may have a mean of its own
CANCELLED = 0.25  # -12 dB: the mean of channels is this much quieter than the loudest of them
UNRELATED = 0.5  # of the power that the mean of channels would have that know nothing of each other
LOST = 0.2  # of the sound's power, in blocks where its channels cancel each other out
SILENCE = 1e-5
BLOCK = 1 << 20  # samples that are looked at in double precision at a time


def one_channel(samples: np.ndarray, rate_hz: int, tell: Callable[[str], None]) -> np.ndarray:
    """float32 [samples, channels] -> [samples], finite, around 0 and in the range of sound; `tell`
    gets a line for each.

    Samples that are no numbers are silence, sound beyond full scale is brought to +-1, what lies
    off centre is centred, and where channels cancel each other out, the louder one is taken.
    """
    samples = _centred(_numbers(samples, rate_hz, tell), rate_hz, tell)
    samples = _in_range(samples, tell)
    mono = samples.mean(axis=1)
    if samples.shape[1] == 1 or not len(samples):
        return mono
    levels = _means_and_levels(samples)[1]
    loudest = int(levels.argmax())
    quiet = _means_and_levels(mono[:, None])[1][0] < CANCELLED * levels[loudest]
    if levels[loudest] > SILENCE and (quiet or _cancelled(samples, mono, rate_hz // 4)):
        tell(f"the channels cancel each other out: channel {loudest + 1} alone is listened to")
        return np.ascontiguousarray(samples[:, loudest])
    return mono


def _means_and_levels(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [channels]: where the samples' centre lies, and their standard deviation from it."""
    sums, squares = np.zeros((2, samples.shape[1]))
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK].astype(np.float64)
        sums += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    means = sums / len(samples)
    return means, np.sqrt(np.maximum(squares / len(samples) - np.square(means), 0.0))


def _cancelled(samples: np.ndarray, mono: np.ndarray, size: int) -> bool:
    """Whether the mean of channels loses a part of the sound, by blocks of `size` samples."""
    total = lost = 0.0
    for start in range(0, len(samples), size):
        block = slice(start, start + size)
        power = float(samples[block].var(axis=0, dtype=np.float64).mean())
        left = float(mono[block].var(dtype=np.float64)) * samples.shape[1]
        total += power
        lost += power if left < UNRELATED * power else 0.0
    return lost > LOST * total


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


def _centred(samples: np.ndarray, rate_hz: int, tell: Callable[[str], None]) -> np.ndarray:
    """A constant that is larger than the sound itself, as unsigned integers have, is taken out."""
    if len(samples) < OFF_CENTRE_S * rate_hz:
        return samples
    means, levels = _means_and_levels(samples)
    means = np.where(np.abs(means) > levels, means, 0.0)
    furthest = float(means[np.abs(means).argmax()])
    if abs(furthest) < OFF_CENTRE:
        return samples
    tell(f"its samples lie around {furthest:.3g} in place of 0: centred")
    return samples - means.astype(np.float32)


def _in_range(samples: np.ndarray, tell: Callable[[str], None]) -> np.ndarray:
    level = np.abs(samples)
    peak = float(level.max(initial=0))
    if peak <= OVERSHOOT:
        return samples
    if np.count_nonzero(level > 1) <= CLICKS * level.size:  # here and there
        tell(f"samples of up to {peak:.3g} are beyond full scale (1): cut off")
        return np.clip(samples, -1, 1)
    peak = min(peak, CREST * float(np.quantile(level, 1 - CLICKS)))
    full = next((f for least, f in INTEGER_RANGES if least <= peak <= OVERSHOOT * f), peak)
    full = max(full, peak)
    tell(f"its samples reach {peak:.3g} where full scale is 1: divided by {full:.6g}")
    return np.clip(samples / np.float32(full), -1, 1)
