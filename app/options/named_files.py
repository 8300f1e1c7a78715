"""The files that a command line names, none of which may become an output."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STDIN = "-"


def named_files(args: argparse.Namespace, *outputs: str) -> list[Path]:
    """Every file that is there and that an option names; `outputs`: options that name none."""
    values = [value for name, value in vars(args).items() if name not in outputs]
    return [path for value in values for path in _paths(value) if _is_file(path)]


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, str | Path):
        text = "/dev/stdin" if str(value) == STDIN else str(value)
        for part in (text, text.partition("=")[2], *text.split(",")):  # NAME=FILE, A,B
            yield Path(part.strip())
            yield Path(part.strip()).expanduser() if part.startswith("~") else Path(part)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text, too long for a name
        return False
