"""Options of commands that write down what is said."""

import argparse

from moshi_mlx.errors import UsageError

from ..captions.formats import FORMATS

ALL = "all"


def add_format_option(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, of: str = ""
) -> None:
    """--format; `of`: whose, for the help."""
    parser.add_argument(
        "--format",
        default="txt",
        metavar="FORMAT",
        help=f"{of}{', '.join(FORMATS)}, several with commas, or {ALL} (default: %(default)s)",
    )


def formats_named(given: str) -> list[str]:
    """ "txt,srt" or "all" -> formats. Raises UsageError for others."""
    names = list(FORMATS) if given == ALL else list(dict.fromkeys(given.split(",")))
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"no format {name!r}; there are {', '.join(FORMATS)} and {ALL}")
    return names
