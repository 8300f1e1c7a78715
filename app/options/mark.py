"""Options of every command that speaks: the mark in its sound, and the index of it."""

import argparse
import sys
from pathlib import Path

from moshi_mlx.errors import UsageError
from moshi_mlx.provenance import read_key
from moshi_mlx.provenance.pattern import PAYLOADS

from ..provenance.index import Index, default_path
from ..provenance.marking import UNMARKED, Marking
from .numbers import Number


def add_mark_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the sound came from (see `moshi trace`)")
    group.add_argument("--no-mark", action="store_true", help="no inaudible mark in the sound")
    group.add_argument(
        "--mark-key", type=Path, metavar="FILE", help="mark with this private key, not the public"
    )
    group.add_argument(
        "--mark-payload",
        type=Number(0, PAYLOADS - 1, whole=True),
        metavar="N",
        help=f"tell 12 bits in the mark: 0 to {PAYLOADS - 1}",
    )
    group.add_argument(
        "--index",
        action="store_true",
        help="keep landmarks of the sound, so that this machine recognises it later",
    )


def marking_from(args: argparse.Namespace) -> Marking:
    """Raises MoshiError for a key of no use."""
    if args.no_mark:
        if args.mark_key is not None or args.mark_payload is not None:
            option = "--mark-payload" if args.mark_key is None else "--mark-key"
            raise UsageError(f"--no-mark and {option} contradict each other: leave one out")
        return Marking(on=False)
    key = None if args.mark_key is None else read_key(args.mark_key)
    return Marking(True, key, args.mark_payload)


def marking_told(args: argparse.Namespace) -> Marking:
    """The same, for commands without a screen of their own: --no-mark is told on stderr."""
    marking = marking_from(args)
    if not marking.on:
        print(UNMARKED, file=sys.stderr)
    return marking


def index_from(args: argparse.Namespace) -> Path | None:
    """Where the index is, if one is wanted. Raises MoshiError for one of no use, before anything is
    generated."""
    if not args.index:
        return None
    Index(default_path()).close()
    return default_path()
