"""Takes Moshi's own voice out of the microphone, in numpy, without delay and sparing the user.

A partitioned frequency-domain Kalman filter (Enzner and Vary 2006; partitioned: Kuech, Mabande and
Enzner 2014). Its step size follows from how sure it is of each frequency of the room's answer and
from how much else is in the microphone, so it holds still while the user speaks: no double-talk
detector. Linear, so it leaves the user's voice as it is.
"""

import numpy as np

HOP_SAMPLES = 480  # 20 ms
TAIL_SAMPLES = 12_000  # 500 ms: delay of the device and room together
# Chosen on synthetic rooms (docs/echo.md): 0.999, 0.02 and 0.9 converge slower and let the user's
# speech disturb the filter more.
TRANSITION = 0.9999  # how long the room stays as it is
FIRST_UNCERTAINTY = 0.1
NOISE_MEMORY = 0.8  # of the spectrum of what isn't echo
LOUDER, LOST_BLOCKS = 1.3, 8  # so much louder in so many blocks: the room has changed
AUDIBLE = HOP_SAMPLES * 1e-6  # energy of a block at -60 dBFS
EPSILON = 1e-10


class EchoCanceller:
    """`process` works on stretches of any length; state spans calls, blocks of 20 ms inside."""

    def __init__(self, tail_samples: int = TAIL_SAMPLES) -> None:
        partitions = -(-tail_samples // HOP_SAMPLES)
        bins = HOP_SAMPLES + 1
        self._weights = np.zeros((partitions, bins), np.complex64)
        self._uncertainty = np.full((partitions, bins), FIRST_UNCERTAINTY, np.float32)
        self._spectra = np.zeros((partitions, bins), np.complex64)  # of what was played
        self._noise = np.zeros(bins, np.float32)
        self._played = np.zeros(2 * HOP_SAMPLES, np.float32)
        self._wrong = 0

    def process(self, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        """mic and played float32 [n], sample by sample -> cleaned [n], no sample late.

        A rest of less than 480 samples, where input was dropped, is passed through. NaN and
        infinities are taken as silence: one would spoil the filter for good.
        """
        mic = np.nan_to_num(mic, nan=0.0, posinf=0.0, neginf=0.0)
        played = np.nan_to_num(played, nan=0.0, posinf=0.0, neginf=0.0)
        out = mic.copy()
        for start in range(0, len(mic) - HOP_SAMPLES + 1, HOP_SAMPLES):
            block = slice(start, start + HOP_SAMPLES)
            out[block] = self._block(mic[block], played[block])
        return out

    def _block(self, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        self._played[:HOP_SAMPLES] = self._played[HOP_SAMPLES:]
        self._played[HOP_SAMPLES:] = played
        self._spectra[1:] = self._spectra[:-1]
        self._spectra[0] = np.fft.rfft(self._played)
        echo = np.fft.irfft((self._weights * self._spectra).sum(0))[HOP_SAMPLES:]
        error = mic - echo
        padded = np.zeros(2 * HOP_SAMPLES, np.float32)
        padded[HOP_SAMPLES:] = error
        self._adapt(np.fft.rfft(padded))
        before, after = float(mic @ mic), float(error @ error)
        self._watch(before, after)
        return mic if after > before else error.astype(np.float32)

    def _watch(self, before: float, after: float) -> None:
        """A filter that makes sound louder again and again has to learn the room anew."""
        if before < AUDIBLE:
            return
        self._wrong = self._wrong + 1 if after > LOUDER * before else max(0, self._wrong - 1)
        if self._wrong >= LOST_BLOCKS:
            self._wrong = 0
            self._weights[:] = 0.0
            self._uncertainty[:] = FIRST_UNCERTAINTY

    def _adapt(self, error: np.ndarray) -> None:
        x, p = self._spectra, self._uncertainty
        self._noise = NOISE_MEMORY * self._noise + (1 - NOISE_MEMORY) * np.abs(error) ** 2
        power = x.real**2 + x.imag**2
        half = 0.5 * p * power
        gain = p / (half.sum(0) + self._noise + EPSILON)
        update = np.fft.irfft(gain * x.conj() * error)
        update[:, HOP_SAMPLES:] = 0.0
        self._weights = TRANSITION * (self._weights + np.fft.rfft(update))
        keep = TRANSITION**2
        w2 = self._weights.real**2 + self._weights.imag**2
        self._uncertainty = keep * (1 - 0.5 * gain * power) * p + (1 - keep) * w2
