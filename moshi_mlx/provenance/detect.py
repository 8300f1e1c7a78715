"""Whether sound carries the mark of a key, with a bound on a false alarm that is proved.

For sound that knows nothing of a key, the sum of its residual times the key's signs is one of
random signs, so P(z > t) <= exp(-t^2 / 2) for any sound whatever (Hoeffding 1963, Theorem 2). Each
alignment, speed and payload that is tried counts in the bound; so do all windows of a recording.
Half of the bound goes to sound without a payload, half to the 4,096 payloads together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
import soxr

from ..audio.finite import finite
from ..clock import SAMPLE_RATE_HZ
from ..errors import MoshiError
from .key import PUBLIC_KEY
from .pattern import HIGH_PAIRS, LOW_PAIRS, PAIRS, PAYLOADS, PERIOD_FRAMES, SYNC_PAIRS, signs
from .residual import HOP_SAMPLES, HOPS_PER_FRAME, residual

WINDOW_S = 10.0
SHORTEST_S = 2.5  # a rest shorter than that goes with the window before it
FALSE_ALARM = 1e-6  # what is called found: by chance in one recording of a million
TEMPO, TEMPO_THOROUGH = 0.02, 0.06  # how much slower or faster is searched
DRIFT_S = 0.05  # how far a pattern may drift within a window, from one tempo tried to the next
THOROUGH_SPEEDS = (0.95, 0.97, 1.03, 1.05)  # tape speeds undone before the search, +-1.25 % each
NEAR = 0.0125
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000


@dataclass(frozen=True)
class Window:
    """A stretch of a recording. z: how well it fits, in standard deviations of chance; false_alarm:
    bound on the chance of that in the whole recording, were there no mark; payload: 12 bits that
    are told in it, None without; speed: 1.01 for sound played 1 % too fast."""

    start_s: float
    seconds: float
    z: float
    false_alarm: float
    payload: int | None
    speed: float

    @property
    def found(self) -> bool:
        """Whether the mark is there, at FALSE_ALARM."""
        return self.false_alarm <= FALSE_ALARM


@dataclass(frozen=True)
class Fit:
    """The best of all hypotheses on a stretch. log_chance: natural logarithm of the bound on its
    chance, with every hypothesis counted."""

    z: float = 0.0
    log_chance: float = 0.0
    payload: int | None = None
    speed: float = 1.0


def detect(
    pcm: np.ndarray,
    rate_hz: int = SAMPLE_RATE_HZ,
    key: bytes | None = None,
    *,
    window_s: float = WINDOW_S,
    thorough: bool = False,
) -> list[Window]:
    """Windows of a mono recording, float [n], each with what was found of the key's mark.

    key: the package's public one by default. thorough: up to 6 % of tempo or speed instead of 2 %.
    Raises MoshiError for sound of another shape or an impossible rate.
    """
    check(pcm, rate_hz)
    bounds = windows(len(pcm), rate_hz, window_s)
    found = []
    for start, end in bounds:
        fit = best_fit(variants(pcm[start:end], rate_hz, thorough), key)
        found.append(
            Window(
                start_s=start / rate_hz,
                seconds=(end - start) / rate_hz,
                z=fit.z,
                false_alarm=chance(fit, len(bounds)),
                payload=fit.payload,
                speed=fit.speed,
            )
        )
    return found


def chance(fit: Fit, tests: int) -> float:
    """A fit's false alarm bound among so many tests; at most 1."""
    return exp(min(0.0, fit.log_chance + log(max(tests, 1))))


def check(pcm: np.ndarray, rate_hz: int) -> None:
    """MoshiError for what can't be a mono recording."""
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        raise MoshiError(f"sound is float [samples], one channel; not {pcm.dtype} {pcm.shape}")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise MoshiError(
            f"{rate_hz} samples a second are not sound: give {MIN_RATE_HZ} to {MAX_RATE_HZ}"
        )


def windows(samples: int, rate_hz: int, window_s: float = WINDOW_S) -> list[tuple[int, int]]:
    """First and last sample + 1 of each window: one after the other, the last as long as is left.
    None for no samples."""
    size, shortest = round(window_s * rate_hz), round(SHORTEST_S * rate_hz)
    starts = list(range(0, samples, size))
    if len(starts) > 1 and samples - starts[-1] < shortest:
        starts.pop()
    return list(zip(starts, [*starts[1:], samples][: len(starts)], strict=True))


@dataclass(frozen=True, eq=False)
class Variant:
    """A stretch's residual [t, 16], after undoing a speed, and the tempos to look for in it."""

    residual: np.ndarray
    speed: float
    tempos: np.ndarray


def variants(pcm: np.ndarray, rate_hz: int, thorough: bool = False) -> list[Variant]:
    """float [n] -> what `best_fit` searches. Independent of keys: make it once for several."""
    seconds = len(pcm) / rate_hz
    tempo = TEMPO_THOROUGH if thorough else TEMPO
    made = [Variant(residual(_at_24k(pcm, rate_hz)), 1.0, _tempos(tempo, seconds))]
    for speed in THOROUGH_SPEEDS if thorough else ():
        slowed = _at_24k(pcm, rate_hz / speed)
        made.append(Variant(residual(slowed), speed, _tempos(NEAR, seconds)))
    return made


def joined(parts: Sequence[Sequence[Variant]]) -> list[Variant]:
    """The variants of stretches that follow each other, as one stretch."""
    seconds = sum(len(part[0].residual) for part in parts) * HOP_SAMPLES / SAMPLE_RATE_HZ
    return [
        Variant(
            np.concatenate([variant.residual for variant in same]),
            same[0].speed,
            _tempos(float(same[0].tempos.max()) - 1, seconds),
        )
        for same in zip(*parts, strict=True)
    ]


def _at_24k(pcm: np.ndarray, rate_hz: float) -> np.ndarray:
    samples = finite(pcm.astype(np.float32))
    if rate_hz == SAMPLE_RATE_HZ or not len(samples):
        return samples
    return soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)


def _tempos(most: float, seconds: float) -> np.ndarray:
    """Lengths of a frame to try, of the true one: 1 +- most, as close as the window asks; the
    likeliest first."""
    steps = int(np.ceil(most * max(seconds, WINDOW_S) / DRIFT_S))
    tempos = 1 + np.linspace(-most, most, 2 * steps + 1)
    return tempos[np.argsort(abs(tempos - 1), kind="stable")]


def best_fit(searched: Sequence[Variant], key: bytes | None = None) -> Fit:
    """The best hypothesis of all variants, each counted."""
    tempos = sum(len(variant.tempos) for variant in searched)
    log_alignments = log(2 * tempos * HOPS_PER_FRAME * PERIOD_FRAMES)  # 2: with a payload, without
    fits = [fit for variant in searched for fit in _fits(variant, key, log_alignments)]
    return min(fits, key=lambda fit: fit.log_chance, default=Fit())


def _fits(variant: Variant, key: bytes | None, log_alignments: float) -> Iterator[Fit]:
    """The best without a payload and the best with one."""
    own = signs(PUBLIC_KEY if key is None else key)
    folded, tempo = fold(variant.residual, variant.tempos)
    norm = np.sqrt((folded**2).sum(axis=(1, 2)) + 1e-9)
    spectrum = np.fft.rfft(folded, axis=1)

    def correlation(pattern: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        wanted = np.conj(np.fft.rfft(pattern[:, pairs], axis=0))
        return np.fft.irfft((spectrum[:, :, pairs] * wanted).sum(axis=2), PERIOD_FRAMES, axis=1)

    plain = correlation(own.plain, np.arange(PAIRS)).max(axis=1) / norm
    best = int(plain.argmax())
    z = float(plain[best])
    speed = variant.speed / tempo
    yield Fit(z, log_alignments - max(z, 0.0) ** 2 / 2, None, float(speed[best]))
    # A payload rotates the signs of its pairs, so its best rotation is the best alignment of these
    # alone, wherever the others lie.
    sync = correlation(own.telling, SYNC_PAIRS)
    high, low = correlation(own.telling, HIGH_PAIRS), correlation(own.telling, LOW_PAIRS)
    telling = (sync.max(axis=1) + high.max(axis=1) + low.max(axis=1)) / norm
    best = int(telling.argmax())
    z, start = float(telling[best]), int(sync[best].argmax())
    turns = [(int(part[best].argmax()) - start) % PERIOD_FRAMES for part in (high, low)]
    log_chance = log_alignments + log(PAYLOADS) - max(z, 0.0) ** 2 / 2
    yield Fit(z, log_chance, turns[0] * PERIOD_FRAMES + turns[1], float(speed[best]))


def fold(rest: np.ndarray, tempos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[t, 16] -> [tempos x 8, 64, 16]: the residual at each frame of the period, summed over all
    periods, for each tempo and each place of the frames on the grid of 10 ms; and their tempos."""
    tempo = np.repeat(tempos, HOPS_PER_FRAME)[:, None]
    offset = np.tile(np.arange(HOPS_PER_FRAME), len(tempos))[:, None]
    frames = int(len(rest) / (HOPS_PER_FRAME * tempos.min())) + 1
    frames = -(-frames // PERIOD_FRAMES) * PERIOD_FRAMES
    at = np.round(offset + np.arange(frames) * HOPS_PER_FRAME * tempo).astype(int)
    padded = np.vstack([rest, np.zeros((1, PAIRS), rest.dtype)])
    picked = padded[np.minimum(at, len(rest))]
    return picked.reshape(len(tempo), -1, PERIOD_FRAMES, PAIRS).sum(axis=1), tempo[:, 0]
