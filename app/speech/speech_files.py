"""Generated sound on its way to a file and an index while it is made: none of it is held."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from moshi_mlx.audio.writing import SampleFile, kind_of
from moshi_mlx.output.whole_file import whole_files

from ..provenance.index_writer import SoundIndex
from ..provenance.origin import PROGRAM, Origin
from ..provenance.seal import seal_told

TakeSound = Callable[[np.ndarray], None]
TellLine = Callable[[str], None]


class NothingSaidError(Exception):
    """There is nothing to make a file of."""


@contextmanager
def speech_file(path: Path, origin: Origin, tell: TellLine) -> Iterator[SampleFile]:
    """A .wav or .flac that takes sound as it comes, signed and in its place once the block ends
    well; otherwise, and where nothing was written into it, there is none. tell: why it is
    unsigned, a line. Raises MoshiError."""
    with suppress(NothingSaidError), whole_files(path) as (temporary,):
        kind, channels = kind_of(path), len(origin.channels)
        with SampleFile(temporary, kind, channels, origin.note(), PROGRAM) as sound:
            yield sound
        if not sound.samples:
            raise NothingSaidError
        seal_told(temporary, origin, path, tell)


@contextmanager
def kept(
    path: Path | None, origin: Origin, index: Path | None, tell: TellLine
) -> Iterator[TakeSound]:
    """What takes each piece of a sound, float32 [n]: into a file, into an index, or nowhere. tell:
    a line where the index fails or the file is unsigned; the sound is kept all the same."""
    takers: list[TakeSound] = []

    def take(pcm: np.ndarray) -> None:
        for taker in takers:
            taker(pcm)

    with ExitStack() as stack:
        if path is not None:
            takers.append(stack.enter_context(speech_file(path, origin, tell)).write)
        if index is not None:
            takers.append(stack.enter_context(SoundIndex(index, tell)).add)
        yield take
