"""Recordings to listen to: any format, rate and number of channels -> 24 kHz mono."""

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from ..clock import SAMPLE_RATE_HZ
from ..errors import AudioError
from .channels import one_channel
from .quiet_source import QuietSource
from .system_decoder import DECODERS, Decoders, decoded, kind_of

FORMATS = "wav, flac, mp3, ogg, opus, aiff, caf, au, w64, rf64; m4a by afconvert or ffmpeg"
STDIN = "-"
RATES_HZ = (1000, 768_000)
BLOCK_SAMPLES = 1 << 20
LONGEST_PIPE_BYTES = 2 << 30  # held in memory
NOT_THERE = "File does not exist or is not a regular file"  # of an MP3 without a whole frame, too
UNKNOWN_SAMPLES = 2**62  # what libsndfile says of a stream that does not tell its length


def to_stderr(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)


def read_mono(
    path: str | Path | BinaryIO,
    tell: Callable[[str], None] = to_stderr,
    decoders: Decoders = DECODERS,
) -> np.ndarray:
    """A recording as float32 [samples] at 24 kHz, its channels averaged. Raises AudioError.

    `path`: a file, a pipe, "-" for stdin, or an open file. `tell` gets a line for everything
    that had to be mended (`one_channel`); `decoders`: programs for what libsndfile doesn't know.
    """
    if not isinstance(path, str | Path):
        return _from_bytes(bounded(path, "the open file"), "the open file", tell, decoders)
    name = str(path)
    if name == STDIN:
        return _from_bytes(_stdin(), "what came from stdin", tell, decoders)
    path = Path(path)
    try:
        if path.is_dir() or not path.exists():
            raise AudioError(f"no sound file at {path}; check the path")
        if path.is_char_device() or path.is_block_device():
            raise AudioError(f"{path} is a device, no recording; give a file, a pipe or -")
        if not path.is_file():  # a pipe: libsndfile goes back and forth
            with open(path, "rb") as pipe:
                return _from_bytes(bounded(pipe, name), name, tell, decoders)
        with open(path, "rb") as file:
            kind = kind_of(file.read(16))
        if kind is None:
            return _mono(path, name, tell)
    except OSError as error:
        raise AudioError(f"{path} can't be read ({error.strerror}); check the path") from None
    with decoded(path, kind, decoders) as wav:
        return _mono(wav, name, tell)


def _from_bytes(
    data: bytes, name: str, tell: Callable[[str], None], decoders: Decoders
) -> np.ndarray:
    kind = kind_of(data[:16])
    if kind is None:
        return _mono(io.BytesIO(data), name, tell)
    with tempfile.NamedTemporaryFile(prefix="moshi-") as file:  # the system's decoders want one
        file.write(data)
        file.flush()
        with decoded(Path(file.name), kind, decoders, name) as wav:
            return _mono(wav, name, tell)


def _stdin() -> bytes:
    return bounded(sys.stdin.buffer if sys.stdin is not None else io.BytesIO(), "stdin")


def bounded(file: BinaryIO, name: str, most_bytes: int = LONGEST_PIPE_BYTES) -> bytes:
    """All that comes from a pipe, which may never end. Raises AudioError."""
    given = file.read(most_bytes + 1)
    if not given:
        raise AudioError(f"nothing came from {name}; pipe a sound file into it")
    if len(given) > most_bytes:
        raise AudioError(
            f"more than {most_bytes / 1e9:.1f} GB came from {name}; give a file in its place"
        )
    return given


def _mono(file: Any, name: str, tell: Callable[[str], None]) -> np.ndarray:
    try:
        with QuietSource(file) as sound:
            rate_hz, claimed = sound.samplerate, sound.frames
            if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
                raise AudioError(
                    f"{name} claims a rate of {rate_hz} Hz; give a recording of "
                    f"{RATES_HZ[0]} to {RATES_HZ[1]} Hz"
                )
            samples = _samples(sound)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError) as error:
        raise AudioError(
            f"{name} can't be read as sound ({reason(error)}); give a recording in {FORMATS}"
        ) from None
    if len(samples) == 0:
        raise AudioError(f"{name} holds no sound; give a recording that is not empty")
    if len(samples) < claimed < UNKNOWN_SAMPLES:
        raise AudioError(
            f"{name} claims {claimed / rate_hz:.1f} s of sound and holds "
            f"{len(samples) / rate_hz:.1f} s: it is damaged; copy or record it again"
        )
    if sound.damaged:
        tell(f"{name}: the file is damaged; what can't be decoded of it is left out")
    mono = one_channel(samples, rate_hz, lambda note: tell(f"{name}: {note}"))
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    if len(mono) == 0:
        raise AudioError(f"{name} is shorter than a sample; give a longer recording")
    return mono.astype(np.float32, copy=False)


def _samples(sound: QuietSource) -> np.ndarray:
    """All samples [n, channels] that are there, whatever number of them the header claims."""
    blocks = [np.zeros((0, sound.channels), np.float32)]
    while True:
        block = sound.block(BLOCK_SAMPLES)
        if len(block) == 0:
            return np.concatenate(blocks)
        blocks.append(block)


def reason(error: Exception) -> str:
    """Why libsndfile doesn't read a file that is there, in its words where they are true."""
    said = error.error_string if isinstance(error, soundfile.LibsndfileError) else one_line(error)
    said = said.strip(" .")
    return "damaged" if not said or said.startswith(NOT_THERE) else said


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
