"""Sound files that are written: wav or flac, 24 kHz 16 bit, whole or not at all."""

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


def write_samples(
    temporary: Path, samples: np.ndarray, kind: str, comment: str = "", program: str = ""
) -> None:
    """Into a file of `whole_files`; `comment`: what it says of itself, and `program`, by what.

    Raises OSError, which `whole_files` knows.
    """
    clipped = np.clip(samples, -1.0, 1.0)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    try:
        with soundfile.SoundFile(
            temporary, "w", SAMPLE_RATE_HZ, channels, subtype="PCM_16", format=kind
        ) as file:
            if comment:
                file.software, file.comment = program, comment
            file.write(clipped)
    except soundfile.LibsndfileError as error:
        raise OSError(one_line(error)) from None
    if kind == "WAV" and temporary.stat().st_size < samples.size * 2:
        raise OSError("not all samples could be written; is the disk full?")
