"""`moshi bench` as its tests start it, in a process of its own or in this one."""

import subprocess
import sys
from pathlib import Path

from app import cli

ROOT = Path(__file__).parents[3]


def moshi(*argv: str, **options) -> subprocess.Popen:
    """The command in a process of its own, as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def assert_one_line(argv: list[str], says: str, capsys, status: int = 1) -> None:
    assert cli.main(argv) == status
    out, errors = capsys.readouterr()
    assert out == "" and len(errors.strip().splitlines()) == 1
    assert errors.startswith("error: ") and says in errors
