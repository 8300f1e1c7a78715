"""WebRTC's echo canceller (AEC3), from the extra `webrtc`: for hard rooms and two clocks.

It suppresses as well as subtracts, so it holds where a loudspeaker distorts or two devices drift,
and takes some of the user's voice with it while both speak. It delays by about 10 ms. WebRTC knows
48 kHz and not 24, so the sound is doubled and halved around it.
"""

from typing import Any

import numpy as np

from moshi_mlx.audio.finite import finite
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import MoshiError, with_extra

BLOCK_SAMPLES = SAMPLE_RATE_HZ // 100  # 10 ms: what WebRTC works on
HALF_TAPS = 24  # of the filters between the rates: 1 ms of delay in all


class RateFilter:
    """A low pass at half of 48 kHz's bandwidth that goes on from call to call."""

    def __init__(self) -> None:
        at = np.arange(-HALF_TAPS, HALF_TAPS + 1)
        self._taps = (0.5 * np.sinc(at / 2) * np.hanning(len(at) + 2)[1:-1]).astype(np.float32)
        self._tail = np.zeros(2 * HALF_TAPS, np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        joined = np.concatenate([self._tail, x])
        self._tail = joined[-2 * HALF_TAPS :]
        return np.convolve(joined, self._taps, "valid")


class WebrtcCanceller:
    """`process` as in EchoCanceller. Raises MoshiError where the extra isn't installed."""

    def __init__(self) -> None:
        try:
            import pywebrtc_audio
        except ImportError:
            raise MoshiError(
                f"--echo webrtc and both need an extra: {with_extra('webrtc')}; "
                "or choose --echo linear"
            ) from None
        self._aec: Any = pywebrtc_audio.EchoCanceller(sample_rate=2 * SAMPLE_RATE_HZ)
        self._up, self._far_up, self._down = RateFilter(), RateFilter(), RateFilter()

    def process(self, near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray:
        """float32 [n] each -> cleaned [n]; a rest of less than 240 passes through."""
        out = finite(near_end).copy()
        far = finite(far_end)
        for start in range(0, len(near_end) - BLOCK_SAMPLES + 1, BLOCK_SAMPLES):
            block = slice(start, start + BLOCK_SAMPLES)
            out[block] = self._block(out[block], far[block])
        return out

    def _block(self, near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray:
        near, far = self._up(doubled(near_end)), self._far_up(doubled(far_end))
        return self._down(self._aec.process(near, far))[::2]


def doubled(x: np.ndarray) -> np.ndarray:
    """[n] -> [2n] with zeros between, as loud once filtered."""
    out = np.zeros(2 * len(x), np.float32)
    out[::2] = 2 * x
    return out
