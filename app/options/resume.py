"""--resume: a saved talk says which model it needs and how it is held; what contradicts is told."""

import argparse
from dataclasses import replace
from pathlib import Path

from moshi_mlx.errors import MoshiError, UsageError

from ..events import Settings
from ..talk.kept_talk import AskedModel, KeptTalk, kept_talk
from .adapters import split_name
from .model import KYUTAIS_VOICES, SAMPLING, source_from


def add_resume_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on with a talk that key s saved, where it was; its model and options come with it",
    )


def resumed(args: argparse.Namespace) -> KeptTalk | None:
    """The talk to go on with, if one is asked for; its model's options become `args`'.

    Raises MoshiError for a file of no use, UsageError for an option that contradicts it.
    """
    if args.resume is None:
        return None
    kept = kept_talk(args.resume.expanduser())
    check_settings(args, kept)
    source = with_moved(args, kept)
    args.model, args.voice, args.bits = source.model, None, None
    args.lora, args.adapter = list(source.lora) or None, None
    for part in ("revision", "mimi", "tokenizer"):
        setattr(args, part, getattr(source, part) or None)
    args.codec, args.kv_bits = kept.codec, kept.kv_bits
    return replace(kept, source=source)


def settings_of(kept: KeptTalk, greeting: bool) -> Settings:
    """As it was held; `greeting`: whether Moshi may speak before the user does."""
    return replace(kept.settings, greeting=greeting)


def check_settings(args: argparse.Namespace, kept: KeptTalk) -> None:
    """UsageError for an option that says how the talk is held, otherwise than the file."""
    for name in SAMPLING:
        given, had = getattr(args, name), getattr(kept.settings, name)
        if given is not None and given != had:
            raise contradiction(name, given, kept.path, f"the talk has {had}")
    if args.persona is not None or args.keep_prompt:
        name, given = ("persona", "...") if args.persona is not None else ("keep_prompt", "")
        raise contradiction(name, given, kept.path, "who Moshi is was told before the talk began")
    if args.voice is not None and args.voice not in KYUTAIS_VOICES:
        raise contradiction("voice", args.voice, kept.path, "the talk has its voice")
    if args.adapter not in (None, kept.settings.adapter):
        raise contradiction("adapter", args.adapter, kept.path, "the talk has its own")
    if args.codec not in ("auto", kept.codec):
        raise contradiction("codec", args.codec, kept.path, f"the talk was held with {kept.codec}")
    if args.kv_bits not in (16, kept.kv_bits):
        raise contradiction("kv_bits", args.kv_bits, kept.path, f"the talk has {kept.kv_bits}")


def with_moved(args: argparse.Namespace, kept: KeptTalk) -> AskedModel:
    """How to load the model: as the file says, or, where that has moved, as the options say.

    Raises MoshiError where it has moved and nobody says where to.
    """
    given = source_from(args)
    names_one = args.model or args.bits or args.voice
    asked = {"model": given.model if names_one else "", "lora": given.lora}
    asked |= {part: getattr(given, part) for part in ("revision", "mimi", "tokenizer")}
    found = {}
    for part, value in asked.items():
        had = getattr(kept.source, part)
        names = [split_name(one)[1] for one in had] if part == "lora" else [had]
        moved = [name for name in names if is_gone(name)]
        if value and value != had and not moved and (had or part != "model"):
            whose = " and ".join(had) if part == "lora" else had
            of = f"the talk was held with {whose}" if whose else "the talk was held without"
            raise contradiction(part, first(value), kept.path, of)
        if not value and (moved or (part == "model" and not had)):
            where = f"{moved[0]} isn't there any more" if moved else "it doesn't say of which model"
            raise MoshiError(f"{kept.path} can't be gone on from: {where}; say where with --{part}")
        found[part] = value or had
    return AskedModel(**found)


def first(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else value[0]


def is_gone(name: str) -> bool:
    """Whether a file or folder was named that isn't there."""
    return Path(name).is_absolute() and not Path(name).exists()


def contradiction(name: str, given: object, path: Path, why: str) -> UsageError:
    option = f"--{name.replace('_', '-')}"
    said = f"{option} {given}".strip()
    return UsageError(f"{said} contradicts {path}: {why}; leave {option} out")
