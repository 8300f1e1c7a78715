"""The folder that many files go into."""

import argparse
from pathlib import Path

from moshi_mlx.output.whole_file import OutputError


def add_output_dir_option(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help=help_text)


def make_folder(folder: Path) -> None:
    """Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be made ({error.strerror}): give --output-dir another name"
        ) from None
