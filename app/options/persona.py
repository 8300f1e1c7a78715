"""Options of the commands that talk: who Moshi is, where the model can be told."""

import argparse
import errno
from pathlib import Path
from typing import TypedDict

from moshi_mlx.errors import MoshiError

from .model import KYUTAIS_VOICES

LONGEST_FILE = 100_000  # bytes


class PersonaSettings(TypedDict):
    """Fields of `events.Settings`."""

    persona: str | None
    voice: str | None
    keep_prompt: bool


def add_persona_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "who Moshi is (PersonaPlex; with --voice, see `moshi voices`)"
    )
    group.add_argument(
        "--persona",
        metavar="TEXT|FILE",
        help='a role to play, in English: "You work for ...", or a file with it',
    )
    group.add_argument(
        "--keep-prompt",
        action="store_true",
        help="never forget it: by itself it leaves what Moshi remembers after 4 minutes "
        "(not how it was trained)",
    )


def persona_from(args: argparse.Namespace) -> PersonaSettings:
    """Raises MoshiError for a file that can't be read."""
    voice = args.voice if args.model is not None else None  # Kyutai's is a model of its own
    return {
        "persona": None if args.persona is None else text_of(args.persona),
        "voice": voice if voice not in KYUTAIS_VOICES else None,
        "keep_prompt": args.keep_prompt,
    }


def text_of(given: str) -> str:
    """The text, or what the file of this name holds."""
    path = Path(given).expanduser()
    try:
        if path.is_dir() and given:
            raise MoshiError(f"{path} is a folder: give a file with the role, or the text itself")
        if not path.is_file():
            return given
        if path.stat().st_size > LONGEST_FILE:
            raise MoshiError(f"{path} is no persona: it is larger than {LONGEST_FILE // 1000} kB")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MoshiError(f"{path} is no UTF-8 text; convert it first") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a text, and no file's name
            return given
        raise MoshiError(f"{path} can't be read ({error.strerror}); check --persona") from None
    except ValueError:  # a zero byte
        return given
