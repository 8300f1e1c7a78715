"""The echo canceller's filter: partitions of the room's answer in the frequency domain, each
frequency with its own uncertainty (partitioned Kalman filter: Kuech, Mabande and Enzner 2014).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

HOP_SAMPLES = 480  # 20 ms
PARTITION_SAMPLES = 2 * HOP_SAMPLES  # longer than a hop: finer in frequency, half the partitions
BINS = PARTITION_SAMPLES + 1
AUDIBLE = HOP_SAMPLES * 1e-6  # energy of a hop at -60 dBFS
EPSILON = 1e-10
# Chosen on several speakers and rooms; docs/echo.md says on which, and what others gave.
TRANSITION = 0.99996  # how long the room stays as it is, where nothing says that it has changed
FIRST_UNCERTAINTY = 0.3
CAUTION = 8.0  # how much more than the error's own spectrum counts as not being echo
LEARNING = 0.2  # of what a block could teach at best: the blocks overlap, partitions are alike
NOISE_MEMORY = 0.8  # of the spectrum of what isn't echo
BAND_BINS = 12  # it is averaged over bands of 150 Hz: single bins of a voice are too ragged
UNCONSTRAINED = 4  # a partition's answer is cut to its length every so many hops
# The profile: once the echo's path is found, a partition is as uncertain as the energy there and
# in its neighbours allows, no more. Where the room gives no answer, noise isn't taken for one.
PROFILE = 2.0  # times that energy
NEIGHBOURS = 0.3  # of a partition's energy is expected in the next one, 0.3 of that in the next
ANYWHERE = 0.005  # of the strongest partition's energy is thought possible in any
# Coherence: if the error is coherent with the far-end signal, that part of the echo path is not
# modelled yet, and is uncertain again. The near end's voice isn't coherent and changes nothing.
COHERENCE_MEMORY = 0.92  # of the spectra compared: 0.5 s
COHERENCE_HOPS = 2  # they are compared every so many hops: blocks that don't overlap
FLATNESS = 0.25  # a band weighs as its power to this: two voices' loudest harmonics meet by chance
COHERENT = 0.03  # of the error, chance deducted; with the user alone it stays below
MISSING = 12.0  # times the energy of the weights that the coherent part of the error speaks of
QUIET = 1e-6  # a bin's power far below speech, keeps ratios finite
SPARE_ROWS = 64  # spectra are moved once in so many hops

BANDS = np.arange(0, PARTITION_SAMPLES, BAND_BINS)
BAND_OF_BIN = np.minimum(np.arange(BINS) // BAND_BINS, len(BANDS) - 1)
NOISE_SHARE = (0.5 * CAUTION / np.bincount(BAND_OF_BIN)).astype(np.float32)


class Spectra:
    """Of the far end: a row each hop, newest first; a partition is two rows before the next."""

    def __init__(self, partitions: int, oldest: int) -> None:
        self._reach = 2 * partitions - 1
        self._rows = self._reach + oldest
        self._far_end = np.zeros(2 * PARTITION_SAMPLES + (self._rows - 1) * HOP_SAMPLES, np.float32)
        rows = self._rows + SPARE_ROWS
        self.values = np.zeros((rows, BINS), np.complex64)
        self.conjugates = np.zeros((rows, BINS), np.complex64)
        self.powers = np.zeros((rows, BINS), np.float32)
        self._newest = SPARE_ROWS
        self._quiet_hops = self._rows

    @property
    def silent(self) -> bool:
        """The far end has been silent for as long as the echo path is."""
        return self._quiet_hops > self._reach

    def take(self, far_end: np.ndarray) -> bool:
        """The next hop; a shorter one is what is left where input was dropped. -> is it audible?"""
        n = len(far_end)
        audible = float(far_end @ far_end) > AUDIBLE
        self._quiet_hops = 0 if audible else self._quiet_hops + 1
        self._far_end[:-n] = self._far_end[n:]
        self._far_end[-n:] = far_end
        if n != HOP_SAMPLES:  # hops begin elsewhere from here on
            windows = sliding_window_view(self._far_end, 2 * PARTITION_SAMPLES)
            self._newest = SPARE_ROWS
            self._set(slice(SPARE_ROWS, None), np.fft.rfft(windows[::-HOP_SAMPLES]))
            return audible
        if self._newest == 0:
            for rows in (self.values, self.conjugates, self.powers):
                rows[SPARE_ROWS:] = rows[: self._rows]
            self._newest = SPARE_ROWS
        self._newest -= 1
        self._set(self._newest, np.fft.rfft(self._far_end[-2 * PARTITION_SAMPLES :]))
        return audible

    def _set(self, rows: int | slice, spectra: np.ndarray) -> None:
        self.values[rows] = spectra
        self.conjugates[rows] = np.conj(spectra)
        self.powers[rows] = np.real(spectra) ** 2 + np.imag(spectra) ** 2

    def heard(self, hops: int) -> slice:
        """The rows [partitions] of what could be heard `hops` ago."""
        start = self._newest + hops
        return slice(start, start + self._reach, 2)


class KalmanFilter:
    """Predicts the echo of `spectra`, learns from the error. Arrays are [partitions, bins]."""

    def __init__(self, spectra: Spectra, partitions: int) -> None:
        shape = (partitions, BINS)
        self._spectra = spectra
        self._weights = np.zeros(shape, np.complex64)
        self._uncertainty = np.empty(shape, np.float32)
        self._noise = np.zeros(len(BANDS), np.float32)
        self._cross = np.zeros(shape, np.complex64)  # of error and far_end, smoothed
        self._power = np.zeros(shape, np.float32)  # of the far end, as smooth
        self._chance = np.zeros(shape, np.float32)  # |cross|^2 if phases are random
        self._complex, self._real = np.empty_like(self._cross), np.empty_like(self._power)
        self._block = np.zeros(2 * PARTITION_SAMPLES, np.float32)  # half silence, half error
        apart = np.abs(np.subtract.outer(np.arange(partitions), np.arange(partitions)))
        self._neighbours = NEIGHBOURS**apart
        self._hop = 0
        self.forget()

    def forget(self) -> None:
        """As if new to the room."""
        partitions = len(self._weights)
        self._weights[:] = 0.0
        self._uncertainty[:] = FIRST_UNCERTAINTY
        self._cross[:] = 0.0
        self._power[:] = 0.0
        self._chance[:] = 0.0
        self._error_bands = np.zeros(len(BANDS), np.float32)
        self._energy = np.zeros(partitions, np.float32)
        self._missing = np.zeros(partitions, np.float32)
        self.changed = False  # the error is coherent with the far end

    def echo(self, hops: int) -> np.ndarray:
        """What the microphone's partition that ended `hops` ago holds of the far end."""
        heard = self._spectra.values[self._spectra.heard(hops)]
        spectrum = np.multiply(self._weights, heard, out=self._complex).sum(0)
        return np.fft.irfft(spectrum)[PARTITION_SAMPLES:]

    def learn(self, error: np.ndarray, hops: int = 0) -> None:
        """From the error of the partition that ended `hops` ago; an older one is learnt again."""
        rows = self._spectra.heard(hops)
        self._block[PARTITION_SAMPLES:] = error
        spectrum = np.fft.rfft(self._block)
        now = np.add.reduceat(spectrum.real**2 + spectrum.imag**2, BANDS)
        noise = np.maximum(NOISE_MEMORY * self._noise + (1 - NOISE_MEMORY) * now, now)
        expected = np.multiply(self._uncertainty, self._spectra.powers[rows], out=self._real)
        total = 0.5 * expected.sum(0)
        total += (noise * NOISE_SHARE)[BAND_OF_BIN]
        scale = 1.0 / (total + np.float32(EPSILON))
        step = np.multiply(self._spectra.conjugates[rows], spectrum * scale, out=self._complex)
        step *= self._uncertainty
        self._weights += step
        if hops:
            return
        self._noise = noise
        self._settle(expected, scale)
        if self._spectra.silent or now.sum() < QUIET * BINS:
            self.changed = False
            self._missing[:] = 0.0
        elif self._hop % COHERENCE_HOPS == 0:
            self._compare(spectrum, now)

    def _settle(self, expected: np.ndarray, scale: np.ndarray) -> None:
        """What a block has taught is certain; a little of what there is may have changed."""
        keep = TRANSITION**2
        power = self._weights.real**2 + self._weights.imag**2
        self._energy = power.sum(1) / BINS
        expected *= (LEARNING * keep) * scale
        self._uncertainty *= np.subtract(keep, expected, out=expected)
        power *= 1 - keep
        self._uncertainty += power

    def _compare(self, spectrum: np.ndarray, bands: np.ndarray) -> None:
        """How much of the error goes with each partition, and what weights that speaks of."""
        rows = self._spectra.heard(0)
        keep, new = np.float32(COHERENCE_MEMORY), np.float32(1 - COHERENCE_MEMORY)
        self._cross *= keep
        self._cross += np.multiply(
            self._spectra.conjugates[rows], spectrum * new, out=self._complex
        )
        powers = np.multiply(self._spectra.powers[rows], new, out=self._real)
        self._power *= keep
        self._power += powers
        self._chance *= keep**2
        powers *= new * np.square(np.abs(spectrum))
        self._chance += powers
        self._error_bands *= keep
        self._error_bands += new * bands
        cross = self._cross.real**2 + self._cross.imag**2
        cross -= self._chance
        energy = cross.sum(1) / (np.einsum("pb,pb->p", self._power, self._power) + QUIET)
        cross /= self._power + QUIET
        explained = np.add.reduceat(cross, BANDS, axis=1) / (self._error_bands + EPSILON)
        weight = self._error_bands**FLATNESS
        coherence = explained @ weight / (weight.sum() + EPSILON)
        self.changed = bool(coherence.max() > COHERENT)
        sure = np.maximum(coherence - COHERENT, 0.0) / (1 - COHERENT)
        missing = np.clip(MISSING * energy * sure, 0.0, FIRST_UNCERTAINTY)
        self._missing = missing.astype(np.float32)

    def constrain(self, found: bool) -> None:
        """After each hop: answers as long as a partition, uncertainty within its bounds.

        found: the echo's path is, so that it needn't be looked for everywhere any more.
        """
        some = slice(self._hop % UNCONSTRAINED, None, UNCONSTRAINED)
        answer = np.fft.irfft(self._weights[some])
        answer[:, PARTITION_SAMPLES:] = 0.0
        self._weights[some] = np.fft.rfft(answer)
        self._hop += 1
        least = self._missing[:, None]
        most = np.full_like(least, FIRST_UNCERTAINTY)
        if found:
            near = (self._neighbours * self._energy).max(1)
            profile = PROFILE * np.maximum(near, ANYWHERE * self._energy.max())
            most = np.maximum(profile.astype(np.float32)[:, None], least)
        np.maximum(self._uncertainty, least, out=self._uncertainty)
        np.minimum(self._uncertainty, most, out=self._uncertainty)
