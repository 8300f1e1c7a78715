"""The voices that come with a PersonaPlex: files in `voices.tgz`, or in a folder.

An archive of others is read whole into bounded memory, and only plain files of a voice's name are
taken out of it, each checked as `torch_file` does before anything is made of it.
"""

import gzip
import io
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..config.model_files import VOICES as ARCHIVE
from ..errors import MoshiError, WeightsError, suggest

FOLDER, ENDINGS = "voices", (".pt", ".safetensors")  # see `voice`
ARCHIVE_MAX_BYTES = 256 << 20  # unpacked; NVIDIA's has 8 MB
MEMBERS_MAX = 2000
NAME = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True)
class VoiceFile:
    """A voice: a file of its own, or a member of an archive (`archived`: its bytes)."""

    name: str
    path: Path
    archived: bytes | None = None
    ending: str = ENDINGS[0]

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """Its file, for as long as it is needed."""
        if self.archived is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="moshi-voice-") as folder:
            path = Path(folder) / f"{self.name}{self.ending}"
            path.write_bytes(self.archived)
            yield path


def voices_in(folder: Path) -> dict[str, VoiceFile]:
    """Every voice of a model's folder by its name, in order; {} where there is none.

    A file wins over a member of the archive. Raises WeightsError for an archive that is damaged,
    too large, or holds what no archive of voices holds.
    """
    archive, found = folder / ARCHIVE, dict[str, VoiceFile]()
    if archive.is_file():
        found = archived(archive)
    own = [*folder.glob(f"*{ENDINGS[0]}"), *(folder / FOLDER).glob("*")]
    for path in own:
        if path.is_file() and path.suffix in ENDINGS:
            found[path.stem] = VoiceFile(path.stem, path)
    return dict(sorted(found.items()))


def find_voice(name: str, voices: Mapping[str, VoiceFile], model: str) -> VoiceFile:
    """A voice by its name, capital letters or not. Raises MoshiError that says which there are."""
    by_name = {known.lower(): known for known in voices}
    if (known := by_name.get(name.lower())) is not None:
        return voices[known]
    if not voices:
        raise MoshiError(f"{model} has no voices of its own: give a file, or leave the voice out")
    raise MoshiError(
        f"{model} has no voice {suggest(name.upper(), voices)}; there are {', '.join(voices)}"
    )


def archived(path: Path) -> dict[str, VoiceFile]:
    """The voices in a `.tgz` by name. Raises WeightsError."""
    try:
        with gzip.open(path) as file:
            data = file.read(ARCHIVE_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _refused(path, f"it can't be unpacked ({error})") from None
    if len(data) > ARCHIVE_MAX_BYTES:
        raise _refused(path, f"it unpacks to more than {ARCHIVE_MAX_BYTES >> 20} MB")
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            return _members(tar, path)
    except WeightsError:
        raise
    except Exception as error:  # tarfile meets damage in many ways
        raise _refused(path, f"it is no tar file ({' '.join(str(error).split())[:100]})") from None


def _members(tar: tarfile.TarFile, path: Path) -> dict[str, VoiceFile]:
    found: dict[str, VoiceFile] = {}
    for count, member in enumerate(tar):
        if count >= MEMBERS_MAX:
            raise _refused(path, f"it has more than {MEMBERS_MAX} members")
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
            raise _refused(path, f"{member.name[:100]!r} in it leads elsewhere")
        if member.isdir() or (member.isreg() and name.suffix not in ENDINGS):
            continue
        if not member.isreg() or member.issparse():  # which may claim any size
            raise _refused(path, f"{member.name[:100]!r} in it is no plain file")
        if not NAME.fullmatch(name.stem) or name.stem in found:
            raise _refused(path, f"{member.name[:100]!r} in it is no name of a voice of its own")
        file = tar.extractfile(member)
        assert file is not None  # of a plain file
        found[name.stem] = VoiceFile(name.stem, path, file.read(), name.suffix)
    return found


def _refused(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is no archive of voices: {why}; fetch it again")
