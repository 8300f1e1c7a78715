"""A list of scripts, one a line as JSON: what is said, by whom, and into which file.

    {"text": "Hello.", "voice": "ada", "id": "greeting"}
    {"text": ["Hello!", "Hi."], "voices": ["ada", "ben"], "output": "talk.flac"}

A text of several turns is said by two speakers, one after the other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from moshi_mlx.audio.writing import kind_of
from moshi_mlx.errors import MoshiError, suggest
from moshi_mlx.output.whole_file import disk_name

KEYS = ("text", "voice", "voices", "output", "id", "seed")
LONGEST_LINE = 10_000_000  # characters
LONGEST_NAME = 200  # bytes; disks take 255, and what isn't finished has a longer one
VOICES_MAX = 2


@dataclass(frozen=True)
class Script:
    """A line. turns: of the first and the second speaker, one after the other; output: a name
    without folders; seed: None for the command's."""

    line: int
    turns: tuple[str, ...]
    voices: tuple[str, ...]
    output: str
    seed: int | None


@dataclass(frozen=True)
class BadLine:
    """A line that can't be said, and why."""

    line: int
    why: str


def read_scripts(path: Path) -> list[Script | BadLine]:
    """All lines that aren't empty. Raises MoshiError for what is no text, or holds none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MoshiError(f"{path} is no UTF-8 text; convert it first") from None
    except OSError as error:
        raise MoshiError(f"{path} can't be read ({error.strerror}); check the path") from None
    found = list(_lines(text))
    if not found:
        raise MoshiError(f'{path} holds no scripts: a line is {{"text": "Hello.", "id": "hello"}}')
    return found


def _lines(text: str) -> Iterator[Script | BadLine]:
    taken: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            script = script_of(line, number)
        except MoshiError as error:
            yield BadLine(number, str(error))
            continue
        other = taken.setdefault(disk_name(script.output), number)
        if other == number:
            yield script
        else:
            yield BadLine(number, f"{script.output} is what line {other} becomes; rename one")


def script_of(line: str, number: int) -> Script:
    """Raises MoshiError that says what is wrong with the line."""
    raw = _object(line)
    for key in raw:
        if key not in KEYS:
            raise MoshiError(f"unknown key {suggest(key, KEYS)}; there are {', '.join(KEYS)}")
    if "voice" in raw and "voices" in raw:
        raise MoshiError("voice and voices contradict each other: leave one out")
    if "output" in raw and "id" in raw:
        raise MoshiError("output and id both name the file: leave one out")
    turns = _texts(raw.get("text"), "text")
    if not "".join(turns).strip():
        raise MoshiError("there is nothing to say: text is empty")
    voices = _texts(raw.get("voices", raw.get("voice", [])), "voices")
    if len(voices) > VOICES_MAX:
        raise MoshiError(f"{len(voices)} voices given; there are {VOICES_MAX} speakers at most")
    seed = raw.get("seed")
    if seed is not None and type(seed) is not int:
        raise MoshiError(f"seed must be a whole number, not {seed!r}")
    return Script(number, turns, voices, _output(raw, number), seed)


def _object(line: str) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise MoshiError(f"the line has more than {LONGEST_LINE} characters; is it a script?")
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MoshiError(f"it is no JSON ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(raw, dict):
        raise MoshiError('it is no object: give {"text": "Hello."}')
    return raw


def _texts(given: Any, name: str) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise MoshiError(f"{name} must be a text, or a list of texts")
    return tuple(texts)


def _output(raw: dict[str, Any], number: int) -> str:
    """The file's name: `output` as it is, `id` with an ending, else the line's number."""
    given = raw.get("output", raw.get("id", f"{number:04d}"))
    if type(given) is int:
        given = str(given)
    if not isinstance(given, str) or given in ("", ".", "..") or PurePath(given).name != given:
        raise MoshiError(f"{given!r} is no file's name: give one without folders")
    if not given.isprintable() or given.startswith("."):
        raise MoshiError(f"{given!r} is no file's name: choose another")
    name = given if "output" in raw else f"{given}.wav"
    kind_of(Path(name))
    if len(name.encode()) > LONGEST_NAME:
        raise MoshiError(f"a file's name of {len(name.encode())} bytes is too long")
    return name
