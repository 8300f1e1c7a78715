"""Formats that libsndfile lacks, decoded by what the system has: afconvert on a Mac, or ffmpeg.

m4a (AAC, ALAC) is what a Mac and an iPhone record.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from ..errors import AudioError

TIMEOUT_S = 600
# program -> arguments between it and the two file names; the first that is there is taken
Decoders = Mapping[str, tuple[str, ...]]
FFMPEG = ("-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i")
DECODERS: Decoders = MappingProxyType(
    {
        **({"afconvert": ("-f", "WAVE", "-d", "LEI16")} if sys.platform == "darwin" else {}),
        "ffmpeg": FFMPEG,
    }
)


def kind_of(head: bytes) -> str | None:
    """The name of a format that only the system's decoders know, by its first bytes."""
    if head[4:8] == b"ftyp":
        return "MPEG-4 (m4a, mp4)"
    if head[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return "AAC"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "Matroska or WebM"
    if head[:2] == b"\xf0\x7e":  # libsndfile writes to stdout what it finds wrong in one
        return "MIDI sample dump"
    if head[:4] == b"#!AM":
        return "AMR"
    return "WMA" if head[:4] == b"\x30\x26\xb2\x75" else None


def undecodable(path: Path, decoders: Decoders = DECODERS) -> str | None:
    """The name of the file's format where it needs a decoder and none of them is installed."""
    kind = format_of(path)
    return None if kind is None or any(map(shutil.which, decoders)) else kind


def format_of(path: Path) -> str | None:
    """See `kind_of`. A file that can't be read has none."""
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(16))
    except OSError:
        return None


@contextmanager
def readable(path: Path, decoders: Decoders = DECODERS) -> Iterator[Path]:
    """A file for libsndfile in place of `path`: itself, or a WAV file of it. What can't be read
    stays `path`. Raises AudioError where its format needs a decoder that isn't there."""
    kind = format_of(path)
    if kind is None:
        yield path
        return
    with decoded(path, kind, decoders) as wav:
        yield wav


@contextmanager
def decoded(
    path: Path, kind: str, decoders: Decoders = DECODERS, name: str | None = None
) -> Iterator[Path]:
    """A WAV file of `path`, gone when the block ends. `name`: as the user knows it. Raises
    AudioError."""
    name = str(path) if name is None else name
    program = next((name for name in decoders if shutil.which(name)), None)
    if program is None:
        raise AudioError(
            f"{name} is {kind}, which needs a decoder: install ffmpeg, or convert the file with "
            "`afconvert -f WAVE -d LEI16 in.m4a out.wav` on a Mac"
        )
    with tempfile.TemporaryDirectory(prefix="moshi-") as folder:
        wav = Path(folder) / "decoded.wav"
        command = [program, *decoders[program], str(path.absolute()), str(wav)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AudioError(f"{name} is {kind}, and {program} failed on it ({error})") from None
        if done.returncode or not wav.is_file():
            said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
            raise AudioError(
                f"{name} is {kind}, and {program} can't decode it ({ascii(said)[1:-1]}): "
                "record it again, or convert it to wav"
            )
        yield wav
