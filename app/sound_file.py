"""Sound files: any rate, mono or stereo, wav/flac/mp3 in; 24 kHz 16 bit out, whole or not."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError


def read_mono(path: str | Path) -> np.ndarray:
    """A recording as float32 [samples] at 24 kHz, its channels averaged. Raises AudioError."""
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"no sound file at {path}; check the path")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(
            f"{path} can't be read as sound ({one_line(error)}); give a wav, flac or mp3 file"
        ) from None
    if len(samples) == 0:
        raise AudioError(f"{path} holds no sound; give a recording that is not empty")
    mono = np.nan_to_num(samples.mean(axis=1))
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    return mono.astype(np.float32)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")


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
