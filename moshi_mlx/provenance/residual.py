"""What the mark adds to sound, freed of speech as far as neighbours in time tell.

Energies of 32 bands, one each 10 ms; the difference of a pair of bands, minus its mean 80 to
240 ms before and after; clipped; pairs that always say the same are taken back to what each says
alone. All of it is a function of the sound only: whatever it does, it can't raise the chance that
unmarked sound fits a key.
"""

import numpy as np

from ..audio.finite import finite
from .pattern import BANDS, PAIRS, bin_bands

HOP_SAMPLES = 240  # 10 ms: the grid on which frames are looked for
HOPS_PER_FRAME = 8
WINDOW_SAMPLES = 960
FFT_SAMPLES = 1024
SPAN = 6  # windows that an energy is averaged over, so that it lies in one frame of the mark
FLOOR_DB = 60.0  # below the loudest; what is quieter than this is noise of the coding
AUDIBLE_DB = 3.0  # above that floor, for a pair to count
CLIP = 2.5  # standard deviations
NEIGHBOURS = ((8, 1.0), (16, 0.5), (24, 0.25))  # hops away, weight; on both sides
RIDGE = 0.5  # of the covariance of pairs whose standard deviation is about 1

_BINS = (bin_bands(FFT_SAMPLES)[:, None] == np.arange(BANDS)).astype(np.float32)


def residual(pcm: np.ndarray) -> np.ndarray:
    """float [n] at 24 kHz -> float32 [n // 240, 16]: each 10 ms, for each pair; 0 where nothing
    can be said."""
    hops = len(pcm) // HOP_SAMPLES
    pcm = finite(np.asarray(pcm, np.float32))
    peak = np.abs(pcm).max(initial=0.0)
    energy = band_energy(pcm / peak if peak > 0 else pcm)
    if len(energy) <= SPAN:
        return np.zeros((hops, PAIRS), np.float32)
    floor = np.percentile(energy.sum(axis=1), 99) * 10 ** (-FLOOR_DB / 10) / BANDS + 1e-20
    sums = np.cumsum(np.vstack([np.zeros((1, BANDS)), energy]), axis=0)
    level_db = 10 * np.log10((sums[SPAN:] - sums[:-SPAN]) / SPAN + floor)
    heard = np.minimum(level_db[:, 0::2], level_db[:, 1::2]) >= 10 * np.log10(floor) + AUDIBLE_DB
    there = heard.astype(float)
    difference = level_db[:, 0::2] - level_db[:, 1::2]
    rest = (difference - beside(difference, there)) * there
    deviation = np.sqrt((rest**2).sum(axis=0) / np.maximum(there.sum(axis=0), 1)) + 1e-6
    rest = np.clip(rest / deviation, -CLIP, CLIP)
    covariance = rest.T @ rest / len(rest) + RIDGE * np.eye(PAIRS)
    told = np.zeros((hops, PAIRS), np.float32)
    told[: len(rest)] = (rest @ np.linalg.inv(covariance)) * there
    return told


def band_energy(pcm: np.ndarray) -> np.ndarray:
    """float32 [n] -> float32 [t, 32]: energy in each band, 40 ms from each 10 ms on."""
    if len(pcm) < WINDOW_SAMPLES:
        return np.zeros((0, BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(pcm, WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * np.hanning(WINDOW_SAMPLES).astype(np.float32), FFT_SAMPLES)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _BINS


def beside(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """[t, 16] the weighted mean of NEIGHBOURS where these are there; 0 without any."""
    said = values * there
    total, weight = np.zeros_like(values), np.zeros_like(values)
    for hops, share in NEIGHBOURS:
        if hops < len(values):
            total[hops:] += share * said[:-hops]
            weight[hops:] += share * there[:-hops]
            total[:-hops] += share * said[hops:]
            weight[:-hops] += share * there[hops:]
    return total / np.maximum(weight, 1e-9)
