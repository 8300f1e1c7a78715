"""Rooms made of numbers: a loudspeaker, a microphone and walls, with a known delay and decay."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from moshi_mlx.clock import SAMPLE_RATE_HZ

BLOCK = 480
GOLDEN = Path(__file__).parents[1] / "golden"


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


def voice(name: str) -> np.ndarray:
    """One of the voices in tests/golden, 24 kHz."""
    return soundfile.read(GOLDEN / f"{name}.flac", dtype="float32")[0]


def active_rms(x: np.ndarray) -> float:
    """Loudness of the speech in x, pauses left out."""
    return rms(_blocks(x)[_active(x)])


def looped(pcm: np.ndarray, seconds: float) -> np.ndarray:
    """pcm repeated to a length."""
    n = round(seconds * SAMPLE_RATE_HZ)
    return np.tile(pcm, -(-n // len(pcm)))[:n].astype(np.float32)


def erle_db(echo: np.ndarray, left: np.ndarray, start_s: float, end_s: float) -> float:
    """How much of the echo is gone between two times."""
    part = slice(round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ))
    return 20 * float(np.log10(rms(echo[part]) / (rms(left[part]) + 1e-9)))


def without_pauses(pcm: np.ndarray) -> np.ndarray:
    """Speech that never stops for breath: blocks of 20 ms 30 dB below the loudest are cut out."""
    return _blocks(pcm)[_active(pcm)].reshape(-1)


def erle_of_speech_db(echo: np.ndarray, left: np.ndarray, start_s: float, end_s: float) -> float:
    """The same between two times of what was heard of the far end's speech, pauses not counted."""
    heard_s = np.cumsum(_active(echo)) * BLOCK / SAMPLE_RATE_HZ
    part = _active(echo) & (heard_s > start_s) & (heard_s <= end_s)
    return 20 * float(np.log10(rms(_blocks(echo)[part]) / (rms(_blocks(left)[part]) + 1e-9)))


def _blocks(pcm: np.ndarray) -> np.ndarray:
    return pcm[: len(pcm) // BLOCK * BLOCK].reshape(-1, BLOCK)


def _active(pcm: np.ndarray) -> np.ndarray:
    power = np.mean(np.square(_blocks(pcm), dtype=np.float64), 1)
    return power > power.max() * 1e-3


def to_24k(pcm: np.ndarray, rate_hz: int) -> np.ndarray:
    return soxr.resample(pcm, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
