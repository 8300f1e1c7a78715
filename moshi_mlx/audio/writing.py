"""Sound files that are written: wav or flac, 24 kHz 16 bit, whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from ..clock import SAMPLE_RATE_HZ
from ..errors import AudioError
from ..output.whole_file import check_outputs, whole_files
from .file import one_line


def write(path: str | Path, samples: np.ndarray) -> None:
    """float32 [samples] or [samples, channels] at 24 kHz -> 16 bit .wav or .flac, by the ending.

    Samples beyond -1 and 1 are clipped; a file that exists is replaced, once the new one is whole.
    Raises AudioError for another ending or shape, and for samples that are no numbers,
    MoshiError for a place that can't be written to.
    """
    path, samples = Path(path), np.asarray(samples)
    kind = kind_of(path)
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            "sound is float32 [samples] or [samples, channels], "
            f"not {samples.dtype} {list(samples.shape)}"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: some samples are no numbers; mend them first")
    check_outputs([path], force=True)
    with whole_files(path) as (temporary,):
        write_samples(temporary, samples, kind)


def kind_of(path: Path) -> str:
    """WAV or FLAC, by the ending. Raises AudioError for another."""
    kind = path.suffix.lstrip(".").upper() or "WAV"
    if kind not in ("WAV", "FLAC"):
        raise AudioError(f"{path}: sound is written as .wav or .flac; choose one of these endings")
    return kind


class SampleFile:
    """A file of `whole_files` that takes its sound as it comes: 24 kHz, 16 bit. A context manager.

    All of it raises OSError, which `whole_files` knows.
    """

    def __init__(
        self, temporary: Path, kind: str, channels: int = 1, comment: str = "", program: str = ""
    ) -> None:
        """`kind`: WAV or FLAC; `comment`: what it says of itself, and `program`, by what."""
        self._path, self._kind, self._channels = temporary, kind, channels
        self.samples = 0  # of each channel
        with _system_errors():
            self._file = soundfile.SoundFile(
                temporary, "w", SAMPLE_RATE_HZ, channels, subtype="PCM_16", format=kind
            )
            if comment:
                self._file.software, self._file.comment = program, comment

    def write(self, samples: np.ndarray) -> None:
        """float [n] or [n, channels]; what lies beyond -1 and 1 is clipped."""
        with _system_errors():
            self._file.write(np.clip(samples, -1.0, 1.0))
        self.samples += len(samples)

    def __enter__(self) -> "SampleFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with _system_errors():
            self._file.close()
        least_bytes = self.samples * self._channels * 2
        if kind is None and self._kind == "WAV" and self._path.stat().st_size < least_bytes:
            raise OSError("not all samples could be written; is the disk full?")


@contextmanager
def _system_errors() -> Iterator[None]:
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise OSError(one_line(error)) from None
    except AssertionError:  # how soundfile says that fewer were written
        raise OSError("not all samples could be written; is the disk full?") from None


def write_samples(
    temporary: Path, samples: np.ndarray, kind: str, comment: str = "", program: str = ""
) -> None:
    """All of a sound, [samples] or [samples, channels], as `SampleFile`. Raises OSError."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with SampleFile(temporary, kind, channels, comment, program) as file:
        file.write(samples)
