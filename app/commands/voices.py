"""The voices that a model has: which, how long, whose.

moshi voices                                        PersonaPlex's, for `moshi chat --voice`
moshi voices ./my-personaplex                       a folder's
moshi voices ./tts-voices                           files for `moshi say --voice`
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.errors import DownloadError, MoshiError, printable

from ..options.model import add_json_option

if TYPE_CHECKING:
    from moshi_mlx.persona.voice_files import VoiceFile

DEFAULT_MODEL = "nvidia/personaplex-7b-v1"
KIND = "text to speech"
# NVIDIA's names, by their beginning
KINDS = {
    "NATF": "a woman's, natural",
    "NATM": "a man's, natural",
    "VARF": "a woman's, varied",
    "VARM": "a man's, varied",
}


@dataclass(frozen=True)
class Row:
    """A voice as it is listed. damaged: why it can't be used, "" for one that can."""

    name: str
    kind: str
    seconds: float | None
    file: str
    damaged: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        help="a folder, or a Hugging Face repository (default: %(default)s)",
    )
    parser.add_argument("--revision", help="a commit or branch of the repository")
    parser.add_argument(
        "--offline", action="store_true", default=None, help="never ask the network"
    )
    parser.add_argument("--names", action="store_true", help="the names alone, a line each")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """0, 1 where a voice is damaged. Raises MoshiError for a model without any."""
    folder = folder_of(args.model, args.revision, args.offline)
    rows = persona_rows(folder) + tts_rows(folder) + kyutais_rows(folder, args.offline)
    if not rows:
        name = args.model or folder
        raise MoshiError(f"{name} has no voices: neither voices.tgz nor files of voices")
    if args.names:
        print("\n".join(printable(row.name) for row in rows if not row.damaged))
    elif args.json:
        print(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
    else:
        table(rows)
    return 1 if any(row.damaged for row in rows) else 0


def folder_of(model: str, revision: str | None, offline: bool | None) -> Path:
    """Where its voices are, fetched if need be: of a repository with an archive that alone."""
    from moshi_mlx.hub import REPOSITORY, resolve

    if Path(model).expanduser().is_dir() or not REPOSITORY.fullmatch(model):
        return resolve(model, revision, offline)
    try:
        return resolve(model, revision, offline, files=("voices",))
    except DownloadError as missing:
        try:
            return resolve(model, revision, offline=True)  # another kind of voices, in a copy here
        except DownloadError:
            raise missing from None


def persona_rows(folder: Path) -> list[Row]:
    """PersonaPlex's. Raises WeightsError for an archive that is none."""
    from moshi_mlx.persona.voice_files import voices_in

    return [persona_row(voice) for voice in voices_in(folder).values()]


def persona_row(voice: "VoiceFile") -> Row:
    from moshi_mlx.persona.voice import voice_tensors

    kind = KINDS.get(voice.name[:4].upper(), "")
    try:
        with voice.unpacked() as path:
            embeddings = voice_tensors(path).get("embeddings")
    except MoshiError as error:
        return Row(voice.name, kind, None, voice.path.name, str(error))
    if embeddings is None or embeddings.ndim != 4:
        return Row(voice.name, kind, None, voice.path.name, "it holds no embeddings")
    return Row(voice.name, kind, (len(embeddings) + 1) * FRAME_SECONDS, voice.path.name)


def tts_rows(folder: Path) -> list[Row]:
    """Of Kyutai's text to speech: files of speakers' latents, in the folder or below it."""
    from moshi_mlx.tts.voice_names import voice_name
    from moshi_mlx.tts.voices import seconds_of

    rows = []
    for path in sorted(folder.rglob("*.safetensors")):
        file = path.relative_to(folder)
        try:
            seconds = seconds_of(path)
        except MoshiError as error:
            if "@" in path.name:  # as Kyutai calls voices: NAME.wav.SIGNATURE@EPOCH.safetensors
                rows.append(Row(voice_name(file), KIND, None, str(file), str(error)))
            continue
        if seconds is not None:
            rows.append(Row(voice_name(file), KIND, seconds, str(file)))
    return rows


def kyutais_rows(folder: Path, offline: bool | None) -> list[Row]:
    """Voices of kyutai/tts-voices for a text to speech model; of these, offline, what is here."""
    from moshi_mlx.config.reading import read_config
    from moshi_mlx.tts.voice_names import KYUTAIS, VoiceFinder

    if not (folder / "config.json").is_file():
        return []
    try:
        _, names = VoiceFinder.of(folder, read_config(folder), offline).kyutais()
    except DownloadError as error:
        print(f"{KYUTAIS}: {error}", file=sys.stderr)
        return []
    return [Row(name, KIND, None, f"{KYUTAIS}/{file}") for name, file in names.items()]


def table(rows: list[Row]) -> None:
    name = max(len(printable(row.name)) for row in rows)
    kind = max(len(row.kind) for row in rows)
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.1f} s"
        what = f"can't be used: {row.damaged}" if row.damaged else row.file
        line = f"{printable(row.name):<{name}}  {row.kind:<{kind}}  {seconds:>7}  {printable(what)}"
        print(line.rstrip())
