"""What a session tells, in words for a visitor of the page: who may be far from the terminal that
the server runs in, and can start nothing there."""

from typing import Any

from ..events import Notice

# kind of a notice -> what a visitor reads; None: nothing that would help
FOR_VISITORS = {
    "too-slow": "This computer is too slow for this model: Moshi answers late, and misses some "
    "of what you say.",
    "persona-fades": "Moshi is about to forget who it was told to be, and how to sound. Hang up "
    "and begin anew to have it back.",
    "recording-failed": "No more of this conversation can be recorded; the talk itself goes on.",
    "words-failed": "What you say is no longer written down; the talk itself goes on.",
    "persona": None,
}


NO_SIGNATURES = "not looked at: the computer that runs Moshi can't read signatures"


def signature(told: dict[str, Any]) -> str:
    """Of `MarkVerdict.as_json`: an extra that is missing can be added by nobody on the page."""
    return NO_SIGNATURES if told["credentials"]["state"] == "unknown" else told["signature"]


def no_decoder(kind: str) -> str:
    """Of a file in a format that nothing on the server's machine reads."""
    return (
        f"the computer that runs Moshi can't read {kind}; send the sound as wav, mp3, flac or ogg"
    )


def no_decoder_for_owner(kind: str) -> str:
    """The same, for who can mend it."""
    return (
        f"a visitor's file was {kind}, and no decoder for it is installed here: install ffmpeg, "
        "and the page reads such files"
    )


def for_visitor(notice: Notice) -> str | None:
    """One or two sentences, or None where a visitor is told nothing."""
    return FOR_VISITORS.get(notice.kind, notice.message)
