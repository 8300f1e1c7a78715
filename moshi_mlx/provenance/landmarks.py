"""Landmarks of sound: pairs of spectral peaks as numbers, the same again after a codec or room.

As in Wang, "An Industrial-Strength Audio Search Algorithm" (ISMIR 2003). Peaks of a spectrogram of
43 ms each 16 ms, 280 Hz to 3.4 kHz, so that a telephone keeps them; a pair of peaks is a hash of 24
bits: both frequencies and the time between them. Sound can't be made of hashes again.
"""

from typing import NamedTuple

import numpy as np

HOP_SAMPLES, FFT_SAMPLES = 384, 1024
TICK_S = HOP_SAMPLES / 24_000
LOWEST_BIN, END_BIN = 12, 145
PEAK_TICKS, PEAK_BINS = 3, 4  # a peak is the largest among so many neighbours on each side
DYNAMIC = 4.6  # natural logarithm, 40 dB: how far a peak may lie under the loudest near it
NEAR_TICKS = 31  # half a second on both sides
SILENT = 1e-5  # of full scale; what is weaker than this is no peak
BLOCK_TICKS = 31  # half a second, of which the strongest peaks are taken
FULL_SCALE = 100.0  # more than any sound has
NEAREST_TICKS, FARTHEST_TICKS, WIDEST_BINS = 2, 40, 40
LOOKED_AT = 60  # following peaks among which pairs are sought


class LandmarkDensity(NamedTuple):
    """How many peaks of each half second are taken, and how many pairs a peak begins."""

    peaks: int
    pairs: int


KEPT, ASKED = (
    LandmarkDensity(15, 5),
    LandmarkDensity(30, 10),
)  # for an index, and of what is looked for in one


class Landmarks(NamedTuple):
    """hash: int64 [n]; tick: int64 [n], where the first peak of the pair lies, in TICK_S."""

    hash: np.ndarray
    tick: np.ndarray


def landmarks(pcm: np.ndarray, density: LandmarkDensity = KEPT) -> Landmarks:
    """float [n] at 24 kHz -> its landmarks, about 140 a second of speech where an index keeps
    them."""
    ticks, bins = peaks(pcm, density.peaks)
    count = len(ticks)
    later = np.arange(count)[:, None] + np.arange(1, LOOKED_AT)
    there = later < count
    later = np.minimum(later, max(count - 1, 0))
    if not count:
        return Landmarks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    apart = ticks[later] - ticks[:, None]
    fits = there & (apart >= NEAREST_TICKS) & (apart <= FARTHEST_TICKS)
    fits &= abs(bins[later] - bins[:, None]) <= WIDEST_BINS
    fits &= np.cumsum(fits, axis=1) <= density.pairs
    first, which = np.nonzero(fits)
    hashes = bins[first] << 16 | bins[later[first, which]] << 8 | apart[first, which]
    return Landmarks(hashes, ticks[first])


def peaks(pcm: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """float [n] -> (tick, bin), int64 [peaks] each, in order of time; `most` of each block."""
    samples = np.nan_to_num(np.asarray(pcm, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if len(samples) < FFT_SAMPLES:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    samples = np.clip(samples, -FULL_SCALE, FULL_SCALE)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FFT_SAMPLES)
    window = np.hanning(FFT_SAMPLES).astype(np.float32)
    spectrum = np.fft.rfft(frames[::HOP_SAMPLES] * window)[:, LOWEST_BIN:END_BIN]
    level = np.log(np.abs(spectrum) + 1e-9)
    highest = _largest_around(_largest_around(level, PEAK_TICKS, 0), PEAK_BINS, 1)
    loudest = _largest_around(level.max(axis=1, keepdims=True), NEAR_TICKS, 0)
    floor = np.maximum(loudest - DYNAMIC, np.log(SILENT * FFT_SAMPLES / 4))
    ticks, bins = np.nonzero((level == highest) & (level > floor))
    return _strongest(ticks, bins, level[ticks, bins], most)


def _strongest(
    ticks: np.ndarray, bins: np.ndarray, level: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The loudest of each block of time."""
    block = ticks // BLOCK_TICKS
    order = np.lexsort((-level, block))
    start = np.searchsorted(block[order], block[order])  # of each one's block
    kept = np.sort(order[np.arange(len(order)) - start < most])
    return ticks[kept], bins[kept]


def _largest_around(level: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """The largest within `reach` on both sides along an axis."""
    width = [(0, 0), (0, 0)]
    width[axis] = (reach, reach)
    padded = np.pad(level, width, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis)
    return windows.max(axis=-1)
