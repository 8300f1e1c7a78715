"""Voices by name: those in a model's folder, and Kyutai's of the repository kyutai/tts-voices.

A voice's file is called NAME.wav.SIGNATURE@EPOCH.safetensors, in folders; its name is what stands
before, folders included ("expresso/ex03-..."), or the last part alone where that is clear.
Source: PyTorch `moshi/models/tts.py`, get_voice_path.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..config.model_files import model_name
from ..errors import DownloadError, MoshiError, suggest
from .voices import TENSOR, seconds_of

if TYPE_CHECKING:
    from ..hub import Listing

KYUTAIS = "kyutai/tts-voices"
ENDING = ".safetensors"
OWN_ENDING = re.compile(r"(\.wav)?(\.(?P<made_for>[\w-]+@\d+))?\.safetensors$")
LISTED = 20  # names that a message tells


def voice_name(path: PurePath) -> str:
    """What a voice is called whose file is `path` below the folder of all."""
    return OWN_ENDING.sub("", path.as_posix())


def voices_below(folder: Path) -> dict[Path, float]:
    """Files of voices in a folder and below it, and their seconds. Damaged ones are left out."""
    found = {}
    for path in sorted(folder.rglob(f"*{ENDING}")):
        try:
            seconds = seconds_of(path)
        except MoshiError:
            continue
        if seconds is not None:
            found[path] = seconds
    return found


def matching(name: str, known: Iterable[str]) -> list[str]:
    """Which of the known names are meant: one in full, else those with this last part."""
    name = name.casefold()
    whole = [one for one in known if one.casefold() == name]
    return whole or [one for one in known if PurePath(one).name.casefold() == name]


def check_name(voice: str) -> None:
    """MoshiError for what is a file's path, and no such file."""
    if voice.endswith(ENDING) or voice.startswith((".", "/", "~")) or not voice.strip():
        raise MoshiError(f"no voice file at {voice or repr(voice)}; check the path")


@dataclass(frozen=True)
class VoiceFinder:
    """The voices that a model can be asked for.

    folder: its files; made_for: SIGNATURE@EPOCH of the voices of kyutai/tts-voices that fit, "" for
    none; offline: as in `moshi_mlx.load`.
    """

    folder: Path
    made_for: str = ""
    offline: bool | None = None

    @classmethod
    def of(cls, folder: Path, raw: Mapping[str, Any], offline: bool | None = None) -> "VoiceFinder":
        """raw: the model's config.json."""
        takes, known = raw.get("conditioners"), raw.get("model_id")
        if not isinstance(takes, Mapping) or TENSOR not in takes or not isinstance(known, Mapping):
            return cls(folder, "", offline)
        return cls(folder, f"{known.get('sig')}@{known.get('epoch')}", offline)

    def find(self, voice: str | Path) -> Path:
        """The file of a voice: given as a file, or by its name. Raises MoshiError that says which
        there are, DownloadError for one of Kyutai's that can't be had."""
        path = Path(voice).expanduser()
        if path.is_file():
            return path
        voice = str(voice)
        check_name(voice)
        own = {voice_name(p.relative_to(self.folder)): p for p in voices_below(self.folder)}
        if (name := self._one(voice, own)) is not None:
            return own[name]
        try:
            listing, kyutais = self.kyutais()
        except DownloadError as error:
            raise self._unknown(voice, own, f" (those of {KYUTAIS}: {error})") from None
        if listing is None or (name := self._one(voice, kyutais)) is None:
            raise self._unknown(voice, [*own, *kyutais], "")
        return listing.fetched(kyutais[name])

    def kyutais(self) -> "tuple[Listing | None, dict[str, str]]":
        """name -> file of the voices of kyutai/tts-voices that fit; offline those that are here.

        Raises DownloadError.
        """
        if not self.made_for:
            return None, {}
        from ..hub import list_files

        listing = list_files(KYUTAIS, self.offline)
        return listing, {
            voice_name(PurePath(file)): file
            for file in listing.names
            if (said := OWN_ENDING.search(file)) and said["made_for"] == self.made_for
        }

    def _one(self, voice: str, known: Iterable[str]) -> str | None:
        found = matching(voice, known)
        if len(found) > 1:
            raise MoshiError(f"several voices are called {voice}: take {' or '.join(found)}")
        return found[0] if found else None

    def _unknown(self, voice: str, known: Iterable[str], why: str) -> MoshiError:
        model, names = model_name(self.folder), sorted(set(known))
        if not names:
            return MoshiError(f"{model} has no voice {voice}: give a voice file{why}")
        told = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        hint = suggest(voice, [*names, *(PurePath(name).name for name in names)])
        return MoshiError(f"{model} has no voice {hint}; there are {told}{why}")
