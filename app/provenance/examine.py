"""One sound file, block by block: which stretches of which channel carry the mark of which key."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from moshi_mlx.audio.file import reason
from moshi_mlx.audio.quiet_source import QuietSource
from moshi_mlx.errors import AudioError
from moshi_mlx.provenance import PUBLIC_KEY
from moshi_mlx.provenance.detect import (
    FALSE_ALARM,
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    SHORTEST_S,
    WINDOW_S,
    Fit,
    Variant,
    best_fit,
    chance,
    joined,
    variants,
)

PUBLIC = "public key"
TOGETHER = 3  # windows that are looked at once more as one, for what is too weak in each
MOST_CHANNELS = 8

MarkKeys = Mapping[str, bytes]  # name -> key


@dataclass(frozen=True)
class Stretch:
    """A window, or three of them together, of one channel, with the best fit of all keys."""

    channel: int  # from 0
    start_s: float
    seconds: float
    z: float
    false_alarm: float  # in the whole file, all channels, windows and keys counted
    key: str
    payload: int | None
    speed: float

    @property
    def found(self) -> bool:
        return self.false_alarm <= FALSE_ALARM


@dataclass(frozen=True)
class Marks:
    """What was looked at, and found. `together`: stretches of three windows."""

    seconds: float
    rate_hz: int
    channels: int
    comment: str  # the file's own, and the program that it names
    windows: list[Stretch] = field(default_factory=list)
    together: list[Stretch] = field(default_factory=list)

    @property
    def found(self) -> list[Stretch]:
        """Windows, and where none of theirs is found, those together."""
        windows = [window for window in self.windows if window.found]
        return windows or [stretch for stretch in self.together if stretch.found]


@dataclass(frozen=True, eq=False)
class _Looked:
    """A stretch before it is known how many there are."""

    channel: int
    start_s: float
    seconds: float
    fits: dict[str, Fit]

    def judged(self, tests: int) -> Stretch:
        key, fit = min(self.fits.items(), key=lambda item: item[1].log_chance)
        alarm = chance(fit, tests)
        return Stretch(
            self.channel, self.start_s, self.seconds, fit.z, alarm, key, fit.payload, fit.speed
        )


def find_marks(
    path: Path,
    keys: MarkKeys | None = None,
    thorough: bool = False,
    progress: Callable[[float, float], None] = lambda done_s, all_s: None,
) -> Marks:
    """Raises AudioError for a file that is no sound. Memory: some windows, however long it is."""
    keys = {PUBLIC: PUBLIC_KEY} if keys is None else keys
    try:
        with QuietSource(path) as file:
            rate_hz, channels = file.samplerate, file.channels
            if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                raise AudioError(f"{path}: {rate_hz} samples a second are not sound")
            comment = " ".join(f"{file.comment} {file.software}".split())
            windows, together, samples = [], [], 0
            recent: list[list[list[Variant]]] = [[] for _ in range(channels)]
            for block in blocks(file, rate_hz):
                start_s = samples / rate_hz
                for channel, pcm in enumerate(block.T[:MOST_CHANNELS]):
                    looked = variants(pcm, rate_hz, thorough)
                    windows.append(_look(channel, start_s, len(pcm) / rate_hz, looked, keys))
                    recent[channel].append(looked)
                    if len(recent[channel]) == TOGETHER:
                        one = joined(recent[channel])
                        first_s = start_s - (TOGETHER - 1) * WINDOW_S
                        seconds = start_s + len(pcm) / rate_hz - first_s
                        together.append(_look(channel, first_s, seconds, one, keys))
                        recent[channel].clear()
                samples += len(block)
                progress(samples / rate_hz, file.frames / rate_hz)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(unreadable(path, error)) from None
    tests = len(keys) * (len(windows) + len(together))
    return Marks(
        samples / rate_hz,
        rate_hz,
        channels,
        "".join(c if c.isprintable() else "?" for c in comment)[:300],
        [looked.judged(tests) for looked in windows],
        [looked.judged(tests) for looked in together],
    )


def unreadable(path: Path, error: Exception) -> str:
    if not path.exists():
        return f"no sound file at {path}; check the path"
    why = getattr(error, "strerror", None) or reason(error)
    return f"{path} can't be read as sound ({why}); give a wav, flac, mp3, ogg or opus file"


def blocks(file: QuietSource, rate_hz: int) -> Iterator[np.ndarray]:
    """float32 [samples, channels]: 10 s each, a short rest with the one before it. Whatever the
    file's header says of its length, only what is there is read."""
    size, shortest = round(WINDOW_S * rate_hz), round(SHORTEST_S * rate_hz)
    held = file.block(size)
    while len(held):
        following = file.block(size)
        if 0 < len(following) < shortest:
            held, following = np.concatenate([held, following]), following[:0]
        yield held
        held = following


def _look(
    channel: int, start_s: float, seconds: float, looked: list[Variant], keys: MarkKeys
) -> _Looked:
    fits = {name: best_fit(looked, key) for name, key in keys.items()}
    return _Looked(channel, start_s, seconds, fits)
