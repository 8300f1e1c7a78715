"""Failures a user can mend. Each message is one line: what is wrong, and what to do next."""

import difflib
from collections.abc import Iterable


class MoshiError(Exception):
    """Something the user can fix. The message says what is wrong and what to do next."""


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
