"""Sound files that we write: wav or flac, 24 kHz 16 bit, whole or not at all."""

from pathlib import Path

import numpy as np
import soundfile

from moshi_mlx.audio.file import one_line
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError
from moshi_mlx.output.whole_file import whole_files

from ..provenance.origin import PROGRAM


def write_wav(path: str | Path, samples: np.ndarray) -> None:
    """float32 [samples] or [samples, channels] at 24 kHz -> 16 bit wav (or flac, by the ending)."""
    path = Path(path)
    kind = kind_of(path)
    with whole_files(path) as (temporary,):
        write_samples(temporary, samples, kind)


def kind_of(path: Path) -> str:
    """WAV or FLAC, by the ending. Raises AudioError for another."""
    kind = path.suffix.lstrip(".").upper() or "WAV"
    if kind not in ("WAV", "FLAC"):
        raise AudioError(f"{path}: sound is written as .wav or .flac; choose one of these endings")
    return kind


def write_samples(temporary: Path, samples: np.ndarray, kind: str, comment: str = "") -> None:
    """Into a file of `whole_files`; `comment`: what it says of itself. Raises OSError, which
    `whole_files` knows."""
    clipped = np.clip(samples, -1.0, 1.0)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    try:
        with soundfile.SoundFile(
            temporary, "w", SAMPLE_RATE_HZ, channels, subtype="PCM_16", format=kind
        ) as file:
            if comment:
                file.software, file.comment = PROGRAM, comment
            file.write(clipped)
    except soundfile.LibsndfileError as error:
        raise OSError(one_line(error)) from None
    if kind == "WAV" and temporary.stat().st_size < samples.size * 2:
        raise OSError("not all samples could be written; is the disk full?")
