"""From a file to a verdict: the marks in it, its credentials, the talks of this machine."""

from collections.abc import Callable, Mapping
from pathlib import Path

import soxr

from moshi_mlx.audio.quiet_source import QuietSource
from moshi_mlx.audio.system_decoder import readable
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError, MoshiError
from moshi_mlx.provenance import PUBLIC_KEY

from .asking import credentials_of
from .examine import MOST_CHANNELS, PUBLIC, blocks, find_marks
from .index import Index, Match
from .verdict import MarkVerdict


class Tracer:
    """Looks at files, one after the other. `problems`: lines about what couldn't be asked."""

    def __init__(
        self, keys: Mapping[str, bytes], index: Path | None, thorough: bool = False
    ) -> None:
        """keys: private ones by name, beside the public one. index: None for none."""
        self._keys, self._index, self._thorough = {PUBLIC: PUBLIC_KEY, **keys}, index, thorough
        self.problems: list[str] = []

    def trace(
        self, path: Path, progress: Callable[[float, float], None] = lambda done_s, all_s: None
    ) -> MarkVerdict:
        """Raises MoshiError for a file that is no sound; an index of no use is a problem told."""
        if path.exists() and not path.is_file():  # a pipe can't be read more than once
            raise AudioError(f"{path} is no file: save the sound as one, then trace that")
        matches: list[Match] = []
        with readable(path) as sound:
            marks = find_marks(sound, self._keys, self._thorough, progress)
            if self._index is not None:
                try:
                    matches = matches_of(sound, self._index)
                except MoshiError as error:
                    self.problems.append(str(error))
                    self._index = None
        return MarkVerdict(path, marks, credentials_of(path), matches)


def matches_of(path: Path, index_path: Path) -> list[Match]:
    """Each window of each channel that the index knows; neighbours that go on are one."""
    found: list[Match] = []
    with Index(index_path) as index, QuietSource(path) as file:
        samples = 0
        for block in blocks(file, file.samplerate):
            start_s = samples / file.samplerate
            for channel, pcm in enumerate(block.T[:MOST_CHANNELS]):
                at_24k = soxr.resample(pcm, file.samplerate, SAMPLE_RATE_HZ)
                match = index.search(at_24k, channel, start_s)
                if match is not None:
                    join(found, match)
            samples += len(block)
    return found


def join(found: list[Match], match: Match) -> None:
    """Into a list: with the last one of its channel where the same talk goes on, else after it."""
    same = [n for n, earlier in enumerate(found) if earlier.channel == match.channel]
    if same:
        last = found[same[-1]]
        goes_on = abs(last.start_s + last.seconds - match.start_s) < 0.01
        shift_s = (match.talk_s - match.start_s) - (last.talk_s - last.start_s)
        if goes_on and last.talk == match.talk and abs(shift_s) < 0.2:
            found[same[-1]] = last.followed_by(match)
            return
    found.append(match)
