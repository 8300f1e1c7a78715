"""Packages that aren't always there: what works without, what is said where one is missing.

A package that is None in `sys.modules` can't be imported, as one that isn't installed. That all
modules but those behind an option can be is seen in test_packaging.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.extras import OPTIONAL

ROOT = Path(__file__).parents[2]
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({[*OPTIONAL]!r}))\n"
COMMAND = "from app.cli import main; sys.exit(main(sys.argv[1:]))"


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT + code, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["web", "--model", "nano", "--no-open", "--port", "0", "--tls", "self"],
            "error: --tls self needs the extra tls (uv tool install --reinstall '.[tls]'",
        ),
        (
            ["chat", "--model", "nano", "--echo", "webrtc", "--virtual-input", "{question}"],
            "'.[webrtc]'",
        ),
    ],
)
def test_an_option_that_needs_one_says_how_to_get_it(args: list[str], line: str) -> None:
    question = str(ROOT / "moshi_mlx" / "nano" / "samples" / "four_plus_three.wav")
    done = python(COMMAND, *[arg.format(question=question) for arg in args])
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert line in done.stderr and done.stderr.count("\n") == 1


def test_a_voice_from_a_recording_needs_one_that_is_told() -> None:
    done = python(
        "import numpy; from pathlib import Path\n"
        "from moshi_mlx.persona.recording import at_loudness\n"
        "at_loudness(numpy.ones(48000, 'f4'), Path('my.wav'))"
    )
    assert "'.[voice]'" in done.stderr.splitlines()[-1] and "pyloudnorm" in done.stderr


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*OPTIONAL.values()} <= set(project["optional-dependencies"])
    always = " ".join(project["dependencies"])
    assert not any(name.replace("_", "-") in always for name in OPTIONAL)
