"""Extended short-time objective intelligibility (Jensen and Taal 2016): 1 = as clear as `clean`."""

import numpy as np
import soxr

RATE_HZ, FRAME, HOP, FFT = 10_000, 256, 128, 512
BANDS, LOWEST_HZ, SEGMENT = 15, 150.0, 30
DYNAMIC_RANGE_DB = 40.0


def band_matrix() -> np.ndarray:
    """Third-octave bands as sums of FFT bins: [BANDS, FFT // 2 + 1]."""
    freqs = np.linspace(0, RATE_HZ, FFT + 1)[: FFT // 2 + 1]
    centre = LOWEST_HZ * 2.0 ** (np.arange(BANDS) / 3)
    low, high = centre * 2 ** (-1 / 6), centre * 2 ** (1 / 6)
    lo = np.abs(freqs[None] - low[:, None]).argmin(1)
    hi = np.abs(freqs[None] - high[:, None]).argmin(1)
    bins = np.arange(len(freqs))
    return ((bins >= lo[:, None]) & (bins < hi[:, None])).astype(float)


def frames_of(x: np.ndarray) -> np.ndarray:
    window = np.hanning(FRAME + 2)[1:-1]
    starts = range(0, len(x) - FRAME + 1, HOP)
    return np.array([x[s : s + FRAME] * window for s in starts])


def drop_silence(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fx, fy = frames_of(x), frames_of(y)
    energy = 20 * np.log10(np.linalg.norm(fx, axis=1) + 1e-12)
    keep = energy > energy.max() - DYNAMIC_RANGE_DB
    return overlap_add(fx[keep]), overlap_add(fy[keep])


def overlap_add(frames: np.ndarray) -> np.ndarray:
    out = np.zeros((len(frames) - 1) * HOP + FRAME)
    for i, frame in enumerate(frames):
        out[i * HOP : i * HOP + FRAME] += frame
    return out


def normalised(segment: np.ndarray, axis: int) -> np.ndarray:
    centred = segment - segment.mean(axis, keepdims=True)
    return centred / (np.linalg.norm(centred, axis=axis, keepdims=True) + 1e-12)


def estoi(clean: np.ndarray, processed: np.ndarray, rate_hz: int) -> float:
    """clean, processed float [n], aligned -> intelligibility, 1 at best."""
    x, y = (soxr.resample(np.asarray(s, np.float64), rate_hz, RATE_HZ) for s in (clean, processed))
    x, y = drop_silence(x, y)
    bands = band_matrix()
    bx, by = (np.sqrt(bands @ np.abs(np.fft.rfft(frames_of(s), FFT)).T ** 2) for s in (x, y))
    scores = []
    for end in range(SEGMENT, bx.shape[1] + 1):
        sx, sy = bx[:, end - SEGMENT : end], by[:, end - SEGMENT : end]
        sx, sy = normalised(normalised(sx, 1), 0), normalised(normalised(sy, 1), 0)
        scores.append((sx * sy).sum() / SEGMENT)
    return float(np.mean(scores))
