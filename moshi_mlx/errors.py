"""Failures a user can mend. Each message is one line: what is wrong, and what to do next."""

import difflib
import re
from collections.abc import Iterable


def printable(text: str, keep: str = "") -> str:
    """Control characters, direction marks and bytes that are no text, as Python writes them.

    Names in files that others made may hold escape codes, which a terminal would obey.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


WORD_MAX = 400  # characters of a name or a path in a message
MESSAGE_MAX = 4000


def clipped(text: str, most: int) -> str:
    """Its beginning and its end, where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2 - 2]}...{text[2 - most // 2 :]}"


class MoshiError(Exception):
    """Something the user can fix. The message says what is wrong and what to do next."""

    def __str__(self) -> str:
        """One that can be shown: a file of others may hold a name of megabytes."""
        text = printable(super().__str__())
        words = re.sub(rf"\S{{{WORD_MAX + 1},}}", lambda word: clipped(word[0], WORD_MAX), text)
        return clipped(words, MESSAGE_MAX)


class UsageError(MoshiError):
    """An option, of a command or a call, that can't be meant so, by itself or beside others."""


class ConfigError(MoshiError):
    """A config file does not describe a model that can be built."""


class WeightsError(MoshiError):
    """A weight file is missing, damaged, or does not fit the config."""


class DownloadError(MoshiError):
    """A repository can't be fetched: no network, no such name, no room on the disk."""


class AudioError(MoshiError):
    """A sound file or a sound device can't be used."""


def suggest(key: str, known: Iterable[str]) -> str:
    """`dimm` -> `dimm (did you mean dim?)`."""
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"{key} (did you mean {close[0]}?)" if close else key


def with_extra(name: str) -> str:
    """The command that installs this program with an extra. It is on no package index: whoever
    registers its name there could put anything into it."""
    return f"uv tool install --reinstall '.[{name}]' in its checkout"
