"""Every command line that people are told, in documents, help and messages: it is understood here.

Lines of `moshi` go through the very parsers of the commands; scripts, targets and modules that the
others name are there. What installs something is looked at in test_install.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli import parsed
from moshi_mlx.errors import UsageError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "benchmarks" / "README.md",
    ROOT / "tools" / "nano" / "README.md",
]
PROGRAMS = [
    path
    for part in ("app", "moshi_mlx", "quantize", "tools", "benchmarks")
    for path in (ROOT / part).rglob("*")
    if path.suffix in (".py", ".sh", ".js", ".html")
]
STARTS = ("moshi", "make", "uv", "uvx", "pip", "pipx", "python", ".venv/bin/python")
OURS = ("app", "benchmarks", "tools", "quantize", "moshi_mlx")
SPAN = re.compile(r"`([^`\n]+)`")
# what stands for something else in a line, and something that it could stand for
STANDS_FOR = {"OPS,MB": "1000,400", "bash|zsh|fish": "zsh", "[--voices]": "--voices", "...": ""}
ON_PURPOSE = {"moshi chta", "moshi COMMAND --help", "moshi file --top-k"}  # misspelt, shortened
NAMED_ALONE = re.compile(r"the following arguments are required|expected (one|at least one) arg")


def lines_of(document: Path) -> Iterator[tuple[str, bool]]:
    """Shell lines: to be typed (in blocks without a language, indented), or named in backticks."""
    language: str | None = None
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            language = None if language is not None else line[3:].strip()
        elif language == "" or (language is None and line.startswith("    ")):
            yield line.strip(), True
        elif language is None:
            yield from ((span, False) for span in SPAN.findall(line))


def lines_in(program: Path) -> Iterator[tuple[str, bool]]:
    """Those in a program's messages and comments, but for lines with gaps that it fills."""
    spans = SPAN.findall(program.read_text(encoding="utf-8"))
    yield from ((span, False) for span in spans if "{" not in span)


def command_lines() -> list[tuple[str, str, bool]]:
    found = [(path, *line) for path in DOCUMENTS for line in lines_of(path)]
    found += [(path, *line) for path in PROGRAMS for line in lines_in(path)]
    start = re.compile(rf"({'|'.join(map(re.escape, STARTS))})( (?!= )|$)")
    return sorted(
        {
            (str(path.relative_to(ROOT)), line.split("  #")[0].strip(), typed)
            for path, line, typed in found
            if start.match(line) and line not in ON_PURPOSE
        }
    )


def problem(line: str, typed: bool, capsys) -> str:
    """ "" for a line that is understood. Where it is only named, values may be left out."""
    for given, meant in STANDS_FOR.items():
        line = line.replace(given, meant)
    program, *words = shlex.split(line)
    if program == "moshi":
        return problem_of_ours(words, typed, capsys)
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
        return " ".join({word for word in words if "=" not in word} - targets)
    if program.endswith("python") and not is_there(words):
        return f"no {' '.join(words)}"
    return ""


def problem_of_ours(words: list[str], typed: bool, capsys) -> str:
    try:
        if words and words != ["--help"]:
            parsed(words)
    except UsageError as error:
        return str(error)
    except SystemExit as end:  # argparse; 0: --help
        said = capsys.readouterr().err
        return "" if not end.code or (not typed and NAMED_ALONE.search(said)) else said
    return ""


def is_there(words: list[str]) -> bool:
    """The script or the module that Python is to run, if it is ours."""
    if words[0] != "-m":
        return (ROOT / words[0]).is_file()
    module = words[1].replace("moshi_mlx.quantize", "quantize").split(".")  # installed: inside
    place = ROOT.joinpath(*module)
    runs = place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    return module[0] not in OURS or runs


@pytest.fixture(autouse=True)
def nobodys_preferences(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")


@pytest.mark.parametrize(("path", "line", "typed"), command_lines())
def test_a_line_that_people_are_told_is_understood(path, line, typed, capsys) -> None:
    assert problem(line, typed, capsys) == ""


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("moshi chat --bitz 8", False),
        ("moshi cat", False),
        ("moshi chat --bits 5", False),
        ("moshi quantize MODEL", True),
        ("make everything", False),
        ("python benchmarks/nowhere.py", False),
        ("python -m benchmarks.nowhere", False),
    ],
)
def test_a_line_that_cannot_be_meant_is_found(line: str, typed: bool, capsys) -> None:
    assert problem(line, typed, capsys) != ""


def test_lines_are_found_where_they_stand() -> None:
    told = {(path, line) for path, line, typed in command_lines() if typed}
    assert ("README.md", "moshi doctor") in told and ("docs/web.md", "moshi web") in told
    assert len(command_lines()) > 150
