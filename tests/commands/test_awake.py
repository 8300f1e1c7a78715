"""Which commands keep a Mac awake: those that go on for long without anybody typing."""

from contextlib import contextmanager, suppress

import pytest

from app.cli import dispatch
from app.commands.signals import Signals
from moshi_mlx.errors import MoshiError


def held_by(*words):
    """Whether the command holds it, and no longer than it runs; it ends at once, with an error."""
    told = []

    @contextmanager
    def keep_awake():
        told.append("held")
        try:
            yield
        finally:
            told.append("let go")

    with suppress(MoshiError):
        dispatch(words, Signals(), keep_awake)
    assert told in ([], ["held", "let go"])
    return bool(told)


@pytest.mark.parametrize(
    "words",
    [
        ("models", "pull", "nano"),  # a download of hours, were it not in the package
        ("transcribe", "/nowhere/talk.wav"),
        ("bench", "--model", "/nowhere", "--offline"),
        ("quantize", "/nowhere", "/nowhere/else", "--recipe", "q4"),
        ("file", "/nowhere/talk.wav", "/nowhere/answer.wav"),
    ],
    ids=lambda words: words[0],
)
def test_what_takes_long_by_itself_keeps_a_mac_awake(words):
    assert held_by(*words)


def test_what_is_over_at_once_does_not():
    assert not held_by("--version")
    assert not held_by("devices", "--input-channel", "0")
    assert not held_by("trace", "/nowhere/talk.wav")
