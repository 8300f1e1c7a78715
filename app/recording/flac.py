"""A finished recording as FLAC."""

from collections.abc import Callable
from pathlib import Path

from ..provenance.origin import PROGRAM


def to_flac(wav: Path, go_on: Callable[[], bool], note: str) -> Path:
    """Turn a WAV file into a FLAC file beside it; the WAV goes once the FLAC is whole.

    It stays when `go_on` says no, asked about every 3 s of sound. Returns the file that is there.
    Raises OSError.
    """
    import soundfile

    flac, part = wav.with_suffix(".flac"), wav.with_suffix(".flac.part")
    try:
        with soundfile.SoundFile(wav) as source:
            options = {"samplerate": source.samplerate, "channels": source.channels}
            with soundfile.SoundFile(part, "w", **options, format="FLAC") as out:
                out.software, out.comment = PROGRAM, note
                for block in source.blocks(1 << 16, dtype="int16"):
                    if not go_on():
                        return wav
                    out.write(block)
        part.replace(flac)
    except soundfile.LibsndfileError as error:
        raise OSError(5, f"can't write {flac.name}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    wav.unlink()
    return flac
