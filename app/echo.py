"""Takes Moshi's own voice out of the microphone, in numpy, without delay and sparing the user.

A partitioned frequency-domain Kalman filter (Enzner and Vary 2006; partitioned: Kuech, Mabande and
Enzner 2014). Its step size follows from how sure it is of each frequency of the room's answer and
from how much else is in the microphone, so it holds still while the user speaks: no double-talk
detector. Linear, so it leaves the user's voice as it is. While it is new to a room it goes over
what it has just heard again, which learns the room from less speech.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

HOP_SAMPLES = 480  # 20 ms
PARTITION_SAMPLES = 2 * HOP_SAMPLES  # longer than a hop: finer in frequency, half the partitions
TAIL_SAMPLES = 12_000  # 500 ms: delay of the device and room together
# Chosen on several speakers and rooms (docs/echo.md); speech_held_out.flac wasn't among them.
TRANSITION = 0.9999  # how long the room stays as it is
FIRST_UNCERTAINTY = 0.3
CAUTION = 4.0  # how much more than the error's own spectrum counts as not being echo
LEARNING = 0.25  # of what a block could teach at best: the blocks overlap, partitions are alike
NOISE_MEMORY = 0.8  # of the spectrum of what isn't echo
NOISE_BINS = 13  # it is smoothed over so many
AGAIN_HOPS = (4, 9, 15)  # how long ago what is gone over again was heard
NEW_BLOCKS = 150  # 3 s of Moshi's voice: so long a room is new
UNCONSTRAINED = 4  # a partition's answer is cut to its length every so many hops
ENERGY_MEMORY = 0.9  # of the energies that say whether the filter helps at all
GOOD, LOST = 0.1, 1.3  # error against microphone: the room is known; it has changed
PEAK_MEMORY = 0.995  # of the microphone's loudest: what is lost in a pause isn't the room
AUDIBLE = HOP_SAMPLES * 1e-6  # energy of a block at -60 dBFS
EPSILON = 1e-10


class EchoCanceller:
    """`process` works on stretches of any length; state spans calls, blocks of 20 ms inside."""

    def __init__(self, tail_samples: int = TAIL_SAMPLES) -> None:
        partitions = -(-tail_samples // PARTITION_SAMPLES)
        bins = PARTITION_SAMPLES + 1
        self._reach = 2 * partitions - 1  # spectra from the newest to the oldest partition's
        hops = self._reach + max(AGAIN_HOPS)
        self._weights = np.zeros((partitions, bins), np.complex64)
        self._uncertainty = np.full((partitions, bins), FIRST_UNCERTAINTY, np.float32)
        self._noise = np.zeros(bins, np.float32)
        self._played = np.zeros(2 * PARTITION_SAMPLES + (hops - 1) * HOP_SAMPLES, np.float32)
        self._mic = np.zeros(PARTITION_SAMPLES + max(AGAIN_HOPS) * HOP_SAMPLES, np.float32)
        self._spectra = np.zeros((hops, bins), np.complex64)  # of what was played, newest first
        self._hop = self._learnt = 0
        self._before = self._after = 0.0  # energies of the microphone, of what is left of it
        self._loudest = 0.0
        self._known = False

    def process(self, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        """mic and played float32 [n], sample by sample -> cleaned [n], no sample late.

        A rest of less than 480 samples, where input was dropped, is a block of its own. NaN and
        infinities are taken as silence: one would spoil the filter for good.
        """
        mic = np.nan_to_num(mic, nan=0.0, posinf=0.0, neginf=0.0)
        played = np.nan_to_num(played, nan=0.0, posinf=0.0, neginf=0.0)
        out = np.empty_like(mic)
        for start in range(0, len(mic), HOP_SAMPLES):
            block = slice(start, start + HOP_SAMPLES)
            out[block] = self._block(mic[block], played[block])
        return out

    def _block(self, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        self._take(mic, played)
        error = self._error(0)
        self._adapt(0, error)
        if self._learnt < NEW_BLOCKS and self._before > AUDIBLE:
            for hops in AGAIN_HOPS:
                self._adapt(hops, self._error(hops))
        self._constrain()
        return self._spared(mic, error[-len(mic) :])

    def _take(self, mic: np.ndarray, played: np.ndarray) -> None:
        n = len(mic)
        for history, new in ((self._mic, mic), (self._played, played)):
            history[:-n] = history[n:]
            history[-n:] = new
        if n == HOP_SAMPLES:
            self._spectra[1:] = self._spectra[:-1]
            self._spectra[0] = np.fft.rfft(self._played[-2 * PARTITION_SAMPLES :])
        else:  # hops begin elsewhere from here on
            windows = sliding_window_view(self._played, 2 * PARTITION_SAMPLES)
            self._spectra[:] = np.fft.rfft(windows[::-HOP_SAMPLES])
        if float(played @ played) > AUDIBLE:
            self._learnt += 1

    def _heard(self, hops: int) -> np.ndarray:
        """Spectra [partitions, bins] of what could be heard `hops` ago."""
        return self._spectra[hops : hops + self._reach : 2]

    def _error(self, hops: int) -> np.ndarray:
        """What the filter leaves of the microphone's partition that ended `hops` ago."""
        echo = np.fft.irfft((self._weights * self._heard(hops)).sum(0))[PARTITION_SAMPLES:]
        end = len(self._mic) - hops * HOP_SAMPLES
        return self._mic[end - PARTITION_SAMPLES : end] - echo

    def _adapt(self, hops: int, error: np.ndarray) -> None:
        x = self._heard(hops)
        spectrum = np.fft.rfft(np.concatenate([np.zeros_like(error), error]))
        now = smoothed(np.square(np.abs(spectrum)))
        noise = np.maximum(NOISE_MEMORY * self._noise + (1 - NOISE_MEMORY) * now, now)
        expected = self._uncertainty * (np.real(x) ** 2 + np.imag(x) ** 2)
        scale = 1.0 / (0.5 * expected.sum(0) + 0.5 * CAUTION * noise + EPSILON)
        self._weights += self._uncertainty * np.conj(x) * (scale * spectrum)
        if hops:
            return
        self._noise = noise
        keep = TRANSITION**2
        w2 = self._weights.real**2 + self._weights.imag**2
        self._uncertainty *= keep * (1 - LEARNING * (scale * expected))
        self._uncertainty += (1 - keep) * w2

    def _constrain(self) -> None:
        """A partition's answer is as long as the partition; some partitions at a time."""
        some = slice(self._hop % UNCONSTRAINED, None, UNCONSTRAINED)
        answer = np.fft.irfft(self._weights[some])
        answer[:, PARTITION_SAMPLES:] = 0.0
        self._weights[some] = np.fft.rfft(answer)
        self._hop += 1

    def _spared(self, mic: np.ndarray, error: np.ndarray) -> np.ndarray:
        """The error, never louder than the microphone; a room that has changed is noticed."""
        before, after = float(mic @ mic), float(error @ error)
        self._before = ENERGY_MEMORY * self._before + before
        self._after = ENERGY_MEMORY * self._after + after
        self._known |= self._after < GOOD * self._before
        self._loudest = max(PEAK_MEMORY * self._loudest, self._before)
        lost = self._after > max(LOST * self._before, GOOD * self._loudest, AUDIBLE)
        if self._known and lost:
            self._weights[:] = 0.0
            self._uncertainty[:] = FIRST_UNCERTAINTY
            self._learnt, self._known = 0, False
            return mic
        if after <= before:
            return error
        if self._after > self._before:
            return mic
        return error * np.float32(np.sqrt(before / after))


def smoothed(power: np.ndarray) -> np.ndarray:
    """A spectrum [bins] averaged over NOISE_BINS neighbours."""
    total = np.cumsum(np.pad(power, (NOISE_BINS // 2 + 1, NOISE_BINS // 2), "edge"), dtype=float)
    return ((total[NOISE_BINS:] - total[:-NOISE_BINS]) / NOISE_BINS).astype(np.float32)
