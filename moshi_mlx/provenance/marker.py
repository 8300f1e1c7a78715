"""The mark: each frame passes a short filter whose response follows the signs of the key: +-0.8 dB
in the lowest band to +-3.2 dB in the highest.

Minimum phase and causal, so nothing comes later than without it; the filters of two frames are
cross-faded over 10 ms. Silence stays silence. Unlike a mark added to the sound, it can't be heard
in pauses and scales with the volume.
"""

from functools import lru_cache

import numpy as np

from ..clock import FRAME_SAMPLES
from .key import PUBLIC_KEY
from .pattern import BANDS, PERIOD_FRAMES, bin_bands, signs

DEPTH_DB = 2.0  # of the middle, where detection behind codecs and rooms meets its goals
TILT = np.linspace(0.4, 1.6, BANDS)  # PESQ and ESTOI hear low bands most, detection any alike
TAPS = 256
FADE_SAMPLES = 240  # 10 ms
DESIGN_FFT = 1024  # resolution at which a response is designed
FRAME_FFT = 2304  # >= FRAME_SAMPLES + 2 * TAPS - 1: without wrapping, and 2^8 * 9 is quick
FADE_FFT = 768  # >= FADE_SAMPLES + 2 * TAPS - 1


class Marker:
    """One stream of sound. State: the count of frames and 255 samples of history."""

    def __init__(
        self, key: bytes | None = None, payload: int | None = None, depth_db: float = DEPTH_DB
    ) -> None:
        """key: the package's public one by default. payload: 12 bits to be told, or None.
        depth_db: of the filters, in the middle of the bands. Raises MoshiError for a payload of
        more bits."""
        pattern = signs(PUBLIC_KEY if key is None else key).of(payload)
        taps = filters(pattern.tobytes(), depth_db)
        self._whole = np.fft.rfft(taps, FRAME_FFT)
        self._fading = np.fft.rfft(taps, FADE_FFT)
        self._rise = np.linspace(0.0, 1.0, FADE_SAMPLES)
        self._history = np.zeros(TAPS - 1)
        self._count = 0

    @property
    def state(self) -> tuple[int, np.ndarray]:
        """Frames so far and the last 255 samples [255], for another marker to go on from."""
        return self._count, self._history

    def resume(self, count: int, history: np.ndarray) -> None:
        """Go on where another marker of the same key was."""
        self._count, self._history = count, history.astype(np.float64)

    def frame(self, pcm: np.ndarray) -> np.ndarray:
        """float [1920] at 24 kHz -> float32 [1920], marked, of the very same moment."""
        sound = np.concatenate([self._history, pcm])
        now, before = self._count % PERIOD_FRAMES, (self._count - 1) % PERIOD_FRAMES
        start, fade = TAPS - 1, FADE_SAMPLES
        spectrum = np.fft.rfft(sound, FRAME_FFT) * self._whole[now]
        marked = np.fft.irfft(spectrum, FRAME_FFT)[start : start + FRAME_SAMPLES]
        if self._count:
            spectrum = np.fft.rfft(sound[: start + fade], FADE_FFT) * self._fading[before]
            old = np.fft.irfft(spectrum, FADE_FFT)[start : start + fade]
            marked[:fade] = old + self._rise * (marked[:fade] - old)
        if not sound.any():  # digital silence, without the noise of rounding
            marked = np.zeros(FRAME_SAMPLES)
        self._history = sound[-start:]
        self._count += 1
        return marked.astype(np.float32)


def marker_of(mark: Marker | bool | None) -> Marker | None:
    """What `mark=` of a stream of generated sound means: True the package's own, a Marker itself,
    False or None none."""
    return (Marker() if mark else None) if isinstance(mark, bool) else mark


def mark(pcm: np.ndarray, key: bytes | None = None, payload: int | None = None) -> np.ndarray:
    """A whole recording, float [n] at 24 kHz -> float32 [n]: `Marker` frame after frame."""
    marker, frames = Marker(key, payload), -(-len(pcm) // FRAME_SAMPLES)
    padded = np.zeros(frames * FRAME_SAMPLES)
    padded[: len(pcm)] = pcm
    marked = [marker.frame(frame) for frame in padded.reshape(frames, FRAME_SAMPLES)]
    return np.concatenate([np.zeros(0, np.float32), *marked])[: len(pcm)]


@lru_cache(maxsize=4)
def filters(pattern: bytes, depth_db: float) -> np.ndarray:
    """[64, 256] taps, a filter for each frame of the period; `pattern`: float32 [64, 16].

    Flat inside a band with a smooth passage between two, so that 256 taps can follow; minimum
    phase by the real cepstrum (Oppenheim and Schafer, Discrete-Time Signal Processing, 13.5).
    """
    rows = np.frombuffer(pattern, np.float32).reshape(PERIOD_FRAMES, BANDS // 2)
    gains = np.stack([rows, -rows], axis=2).reshape(PERIOD_FRAMES, BANDS) * TILT
    masks = (bin_bands(DESIGN_FFT) == np.arange(BANDS)[:, None]).astype(float)
    smooth = np.hanning(7) / np.hanning(7).sum()
    masks = np.array([np.convolve(row, smooth, "same") for row in masks])
    response = gains @ masks * depth_db * np.log(10) / 20  # natural logarithm of the amplitude
    cepstrum = np.fft.irfft(response, DESIGN_FFT)
    cepstrum[:, 1 : DESIGN_FFT // 2] *= 2
    cepstrum[:, DESIGN_FFT // 2 + 1 :] = 0
    taps = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), DESIGN_FFT)[:, :TAPS]
    taps[:, -64:] *= np.hanning(128)[64:]
    taps.setflags(write=False)
    return taps
