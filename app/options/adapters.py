"""--lora and --adapter: one adapter for all of a command's talk, or several to choose from.

One that is given without a name is the model's own from then on, merged where it can be. Those with
names lie beside the same weights, and each talk has one of them.
"""

import argparse
import re
from dataclasses import dataclass, field

from moshi_mlx.errors import UsageError, suggest

NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


@dataclass(frozen=True)
class GivenAdapters:
    """As `moshi_mlx.load` takes them: `lora`, or `named`; chosen: which one a talk has, "" for
    none of the named."""

    lora: str | None = None
    named: dict[str, str] = field(default_factory=dict)
    chosen: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """Files, folders and repositories."""
        return tuple(self.named.values()) if self.lora is None else (self.lora,)


def add_lora_option(group: argparse._ArgumentGroup, several: bool = False) -> None:
    """--lora, the same in every command with a model that can be fine-tuned so; `several`: it may
    be repeated with names, and --adapter chooses."""
    text = "an adapter for the model (lora.safetensors): a file, or a folder or repository"
    if not several:
        group.add_argument("--lora", metavar="FILE|MODEL", help=text)
        return
    group.add_argument(
        "--lora",
        action="append",
        metavar="[NAME=]FILE|MODEL",
        help=f"{text}; NAME=FILE, repeated, for several to choose from",
    )
    group.add_argument(
        "--adapter", metavar="NAME", help="which --lora NAME=FILE to talk with (default: the first)"
    )


def adapters_from(args: argparse.Namespace) -> GivenAdapters:
    """What the options name. Raises UsageError where that can't be meant."""
    if args.lora is None or isinstance(args.lora, str):
        given = [] if args.lora is None else [args.lora]
    else:
        given = args.lora
    named, plain = {}, []
    for one in given:
        name, place = split_name(one)
        if not name:
            plain.append(place)
        elif name in named:
            raise UsageError(f"--lora {name}=... is given twice: choose two names")
        else:
            named[name] = place
    if plain and len(given) > 1:
        raise UsageError(
            f"--lora {plain[0]} is one of several: give each a name, --lora NAME={plain[0]}"
        )
    if args.adapter is None:
        return GivenAdapters(plain[0] if plain else None, named, next(iter(named), ""))
    if not named:
        raise UsageError("--adapter chooses among several: name them with --lora NAME=FILE")
    if args.adapter not in named:
        known = ", ".join(named)
        asked = suggest(args.adapter or "''", named)
        raise UsageError(f"no --lora is named {asked}; there are {known}")
    return GivenAdapters(None, named, args.adapter)


def split_name(given: str) -> tuple[str, str]:
    """NAME=FILE -> both; a file alone has the name ""."""
    name, sign, place = given.partition("=")
    return (name, place) if sign and place and NAME.fullmatch(name) else ("", given)
