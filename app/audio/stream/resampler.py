"""Sample rates converted as samples come: for devices that take no rate but their own.

A polyphase windowed sinc (Kaiser, beta 8): the output's n-th sample lies at n * from / to of the
input, and the filter's taps for each of the few places between two input samples are made once.
"""

import math

import numpy as np

TAPS = 32  # at the lower of the two rates
CUTOFF = 0.92  # of the lower rate's Nyquist frequency
KAISER_BETA = 8.0


class Resampler:
    """One channel, float32. Delays by TAPS / 2 samples of the lower rate."""

    def __init__(self, from_hz: float, to_hz: float) -> None:
        common = math.gcd(round(from_hz), round(to_hz))
        self._up, self._down = round(to_hz) // common, round(from_hz) // common
        taps = TAPS * max(1, math.ceil(self._down / self._up))
        length = taps * self._up
        at = np.arange(length) - (length - 1) / 2  # in steps of the rate both divide
        width = CUTOFF / max(self._up, self._down)
        kernel = width * np.sinc(width * at) * np.kaiser(length, KAISER_BETA)
        kernel *= self._up / kernel.sum()
        # [place between two input samples, tap], the newest sample first
        self._taps = np.ascontiguousarray(kernel.reshape(taps, self._up).T, np.float32)
        self._past = np.zeros(taps - 1, np.float32)
        self._seen = 0  # input samples before `_past`'s end
        self._made = 0  # output samples

    def push(self, block: np.ndarray) -> np.ndarray:
        """Input [n] -> what it completes of the output [m], m about n * to / from."""
        line = np.concatenate([self._past, block])
        self._seen += len(block)
        end = -(-self._seen * self._up // self._down)  # outputs that lie before the input's end
        steps = np.arange(self._made, end) * self._down
        newest = steps // self._up - (self._seen - len(line))  # index in `line`
        reach = self._taps.shape[1]
        windows = line[newest[:, None] - np.arange(reach)]
        self._past = line[len(line) - (reach - 1) :]
        self._made = end
        return np.einsum("mt,mt->m", windows, self._taps[steps % self._up])
