"""Recordings to listen to: wav, flac or mp3 at any rate, mono or stereo -> 24 kHz mono."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from ..clock import SAMPLE_RATE_HZ
from ..errors import AudioError
from .finite import finite


def read_mono(path: str | Path | BinaryIO) -> np.ndarray:
    """A recording as float32 [samples] at 24 kHz, its channels averaged. Raises AudioError."""
    if isinstance(path, str | Path) and not Path(path).is_file():
        raise AudioError(f"no sound file at {path}; check the path")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(
            f"{path} can't be read as sound ({one_line(error)}); give a wav, flac or mp3 file"
        ) from None
    if len(samples) == 0:
        raise AudioError(f"{path} holds no sound; give a recording that is not empty")
    mono = finite(samples.mean(axis=1))
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    return mono.astype(np.float32)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
