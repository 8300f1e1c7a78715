"""Rooms made of numbers: a loudspeaker, a microphone and walls, with a known delay and decay."""

import numpy as np
import soxr

from moshi_mlx.clock import SAMPLE_RATE_HZ


def room(delay_ms: float, rt60_s: float = 0.25, seed: int = 0, direct: float = 2.0) -> np.ndarray:
    """Impulse response: a direct path after the delay, then noise that falls 60 dB in rt60_s."""
    rng = np.random.default_rng(seed)
    n = round(rt60_s * SAMPLE_RATE_HZ)
    decay = 10.0 ** (-3.0 * np.arange(n) / n)
    tail = rng.standard_normal(n) * decay * 0.15
    tail[0] = direct
    return np.concatenate([np.zeros(round(delay_ms * SAMPLE_RATE_HZ / 1000)), tail])


def echo_of(played: np.ndarray, response: np.ndarray, level: float) -> np.ndarray:
    """What the microphone gets of `played` [n], at an rms of `level` -> float32 [n]."""
    n = len(played) + len(response)
    spectrum = np.fft.rfft(played, n) * np.fft.rfft(response, n)
    echo = np.fft.irfft(spectrum, n)[: len(played)]
    return (echo * level / rms(echo)).astype(np.float32)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def active_rms(x: np.ndarray) -> float:
    """Loudness of the speech in x, pauses left out."""
    blocks = x[: len(x) // 480 * 480].reshape(-1, 480)
    power = np.mean(np.square(blocks, dtype=np.float64), 1)
    return float(np.sqrt(power[power > power.max() * 1e-3].mean()))


def looped(pcm: np.ndarray, seconds: float) -> np.ndarray:
    """pcm repeated to a length."""
    n = round(seconds * SAMPLE_RATE_HZ)
    return np.tile(pcm, -(-n // len(pcm)))[:n].astype(np.float32)


def erle_db(echo: np.ndarray, left: np.ndarray, start_s: float, end_s: float) -> float:
    """How much of the echo is gone between two times."""
    part = slice(round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ))
    return 20 * float(np.log10(rms(echo[part]) / (rms(left[part]) + 1e-9)))


def to_24k(pcm: np.ndarray, rate_hz: int) -> np.ndarray:
    return soxr.resample(pcm, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
