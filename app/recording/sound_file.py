"""Sound files that we write: wav or flac, 24 kHz 16 bit, whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from moshi_mlx.audio.file import one_line
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, else vanishes.

    Raises AudioError when the folder can't be written to or the disk is full.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
    except OSError as error:
        raise AudioError(
            f"{path} can't be written ({error.strerror}); choose another folder"
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(
            f"{path} can't be written ({one_line(error)}); is the disk full? Free some space"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_wav(path: str | Path, samples: np.ndarray) -> None:
    """float32 [samples] or [samples, channels] at 24 kHz -> 16 bit wav (or flac, by the ending)."""
    path = Path(path)
    kind = kind_of(path)
    with whole_file(path) as temporary:
        write_samples(temporary, samples, kind)


def kind_of(path: Path) -> str:
    """WAV or FLAC, by the ending. Raises AudioError for another."""
    kind = path.suffix.lstrip(".").upper() or "WAV"
    if kind not in ("WAV", "FLAC"):
        raise AudioError(f"{path}: sound is written as .wav or .flac; choose one of these endings")
    return kind


def write_samples(temporary: Path, samples: np.ndarray, kind: str) -> None:
    """Into a file of `whole_file`. Raises OSError or LibsndfileError, which it knows."""
    clipped = np.clip(samples, -1.0, 1.0)
    soundfile.write(temporary, clipped, SAMPLE_RATE_HZ, subtype="PCM_16", format=kind)
    if kind == "WAV" and temporary.stat().st_size < samples.size * 2:
        raise OSError("not all samples could be written")
