"""What a key stands for: a sign for each pair of bands in each frame of a period of 5.12 s.

32 bands, equally wide in mel, 300 to 7,600 Hz, make 16 pairs of neighbours; the two bands of a pair
get opposite signs, so loudness stays. Eight pairs are the same in all sound of a key. The other
eight carry the payload, 12 bits: four pairs are rotated in time by its high six bits, four by its
low six bits, against where the key has them. Without a payload they have signs of their own.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..clock import SAMPLE_RATE_HZ
from ..errors import MoshiError

BANDS = 32
PAIRS = BANDS // 2
PERIOD_FRAMES = 64
LOWEST_HZ, HIGHEST_HZ = 300.0, 7600.0
SYNC_PAIRS = np.arange(0, PAIRS, 2)
HIGH_PAIRS, LOW_PAIRS = np.arange(1, PAIRS, 4), np.arange(3, PAIRS, 4)
PAYLOADS = PERIOD_FRAMES**2  # 12 bits


@dataclass(frozen=True, eq=False)
class Signs:
    """float32 +-1 [64, 16], frame by pair: with nothing told, and with payload 0 told."""

    plain: np.ndarray
    telling: np.ndarray

    def of(self, payload: int | None) -> np.ndarray:
        """The signs [64, 16] of a payload. Raises MoshiError for one that isn't 12 bits."""
        if payload is None:
            return self.plain
        if not 0 <= payload < PAYLOADS:
            raise MoshiError(f"a payload has 12 bits, 0 to {PAYLOADS - 1}; not {payload}")
        high, low = divmod(payload, PERIOD_FRAMES)
        signs = self.telling.copy()
        signs[:, HIGH_PAIRS] = np.roll(signs[:, HIGH_PAIRS], high, axis=0)
        signs[:, LOW_PAIRS] = np.roll(signs[:, LOW_PAIRS], low, axis=0)
        return signs


@lru_cache(maxsize=8)
def signs(key: bytes) -> Signs:
    """The signs of a key: SHAKE-256 of it, so the same in every version of every library."""
    count = PERIOD_FRAMES * PAIRS
    raw = hashlib.shake_256(key).digest(2 * count // 8)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(2, PERIOD_FRAMES, PAIRS)
    plain, telling = bits * np.float32(2) - 1
    telling[:, SYNC_PAIRS] = plain[:, SYNC_PAIRS]
    for array in (plain, telling):
        array.setflags(write=False)
    return Signs(plain, telling)


def band_edges_hz() -> np.ndarray:
    """[33] edges of the bands, equally wide in mel (O'Shaughnessy's formula)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    return 700 * (10 ** (np.linspace(low, high, BANDS + 1) / 2595) - 1)


def bin_bands(fft_samples: int) -> np.ndarray:
    """[fft_samples / 2 + 1] the band of each bin of a real FFT at 24 kHz; -1 outside of all."""
    edges = band_edges_hz()
    band = np.searchsorted(edges, np.fft.rfftfreq(fft_samples, 1 / SAMPLE_RATE_HZ)) - 1
    return np.where(band < BANDS, band, -1)
