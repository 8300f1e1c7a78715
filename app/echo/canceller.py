"""Takes Moshi's own voice out of the microphone, in numpy, without delay and sparing the user.

A partitioned frequency-domain Kalman filter (Enzner and Vary 2006). Its step size follows from how
sure it is of each frequency of the room's answer and from how much else is in the microphone, so
it holds still while the user speaks: no double-talk detector. Linear, so it leaves the user's voice
as it is. While it is new to a room, or the room has changed, it goes over what it has just heard
again, which learns the room from less speech.
"""

import numpy as np

from moshi_mlx.audio.finite import finite

from .kalman_filter import AUDIBLE, HOP_SAMPLES, PARTITION_SAMPLES, KalmanFilter, Spectra

TAIL_SAMPLES = 12_000  # 500 ms: delay of the device and room together
AGAIN_HOPS = (3, 8, 15, 25)  # how long ago what is gone over again was heard
NEW_BLOCKS = 150  # 3 s of Moshi's voice: so long a room is new
ENERGY_MEMORY = 0.9  # of the energies that say whether the filter helps at all
# Error against microphone: the echo's path is found, the room is known, it has become another.
FOUND, GOOD, LOST = 0.3, 0.1, 1.3
PEAK_MEMORY = 0.995  # of the microphone's loudest: what is lost in a pause isn't the room


class EchoCanceller:
    """`process` works on stretches of any length; state spans calls, blocks of 20 ms inside."""

    def __init__(self, tail_samples: int = TAIL_SAMPLES) -> None:
        partitions = -(-tail_samples // PARTITION_SAMPLES)
        self._spectra = Spectra(partitions, max(AGAIN_HOPS))
        self._filter = KalmanFilter(self._spectra, partitions)
        self._near_end = np.zeros(PARTITION_SAMPLES + max(AGAIN_HOPS) * HOP_SAMPLES, np.float32)
        self._learnt = 0
        self._open_hops = 0  # since the microphone was muted
        self._before = self._after = 0.0  # energies of the microphone, of what is left of it
        self._loudest = 0.0
        self._known = False

    def process(self, near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray:
        """Microphone and what was played, float32 [n] each -> near end without echo [n], no delay.

        A rest of less than 480 samples, where input was dropped, is a block of its own. NaN and
        infinities are taken as silence: one would spoil the filter for good.
        """
        near_end, far_end = finite(near_end), finite(far_end)
        out = np.empty_like(near_end)
        for start in range(0, len(near_end), HOP_SAMPLES):
            block = slice(start, start + HOP_SAMPLES)
            out[block] = self._block(near_end[block], far_end[block])
        return out

    def _block(self, near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray:
        n = len(near_end)
        self._near_end[:-n] = self._near_end[n:]
        self._near_end[-n:] = near_end
        self._learnt += self._spectra.take(far_end)
        if not near_end.any():  # muted: that tells nothing of the room
            self._open_hops = 0
            return near_end
        self._open_hops += 1
        error = self._error(0)
        if self._open_hops > 1:
            self._filter.learn(error)
        new = self._learnt < NEW_BLOCKS or self._filter.changed
        if new and self._before > AUDIBLE:
            for hops in AGAIN_HOPS:
                if hops + 1 < self._open_hops:
                    self._filter.learn(self._error(hops), hops)
        self._filter.constrain(self._known or self._after < FOUND * self._before)
        return self._spared(near_end, error[-n:])

    def _error(self, hops: int) -> np.ndarray:
        """What the filter leaves of the microphone's partition that ended `hops` ago."""
        end = len(self._near_end) - hops * HOP_SAMPLES
        return self._near_end[end - PARTITION_SAMPLES : end] - self._filter.echo(hops)

    def _spared(self, near_end: np.ndarray, error: np.ndarray) -> np.ndarray:
        """The error, never louder than the microphone; a room that has changed is noticed."""
        before, after = float(near_end @ near_end), float(error @ error)
        self._before = ENERGY_MEMORY * self._before + before
        self._after = ENERGY_MEMORY * self._after + after
        self._known |= self._after < GOOD * self._before
        self._loudest = max(PEAK_MEMORY * self._loudest, self._before)
        lost = self._after > max(LOST * self._before, GOOD * self._loudest, AUDIBLE)
        if self._known and lost:
            self._filter.forget()
            self._learnt, self._known = 0, False
            return near_end
        if after <= before:
            return error
        if self._after > self._before:
            return near_end
        return error * np.float32(np.sqrt(before / after))
