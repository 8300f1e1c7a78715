"""`Speaker`, the object that people use: texts to sound, at once or as they are written."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

from ..errors import MoshiError
from .model import SpeakingModel
from .script import ScriptEntry
from .speech import SpeakOptions, Speech
from .stream import SpeechStream

ENTRIES_MAX = 10_000  # words and breaks of one speech: an hour
NO_WORDS = "there is nothing to say: the text has no words"


class Speaker(SpeakingModel):
    """A text to speech model. Weights never change; each `stream` holds its own state."""

    def speak(
        self,
        turns: Sequence[str],
        entries: Iterable[Mapping[str, Any]] | None = None,
        **options: Unpack[SpeakOptions],
    ) -> Speech:
        """A whole script: turns of the first and the second speaker, one after the other.

        entries: given in place of turns (tokens, text, padding of each). Raises MoshiError for a
        text without words, breaks that can't be read, and voices that don't fit.
        """
        if isinstance(turns, str):
            turns = [turns]
        stream = self.stream(**options)
        if entries is not None:
            given = [ScriptEntry(tuple(e["tokens"]), e["text"], e["padding"]) for e in entries]
            stream.append(given)
        else:
            for i, text in enumerate(turns):
                stream.say(text, i % 2)
        if not stream.has_words:
            raise MoshiError(NO_WORDS)
        if stream.waiting > ENTRIES_MAX:
            raise MoshiError(
                f"{stream.waiting} words are hours of speech, and held in memory: say "
                f"{ENTRIES_MAX} at a time, or take them from a stream as they come"
            )
        stream.end()
        for _ in stream.frames():
            pass
        return stream.speech()

    def stream(self, keep: bool = True, **options: Unpack[SpeakOptions]) -> SpeechStream:
        """Text that arrives bit by bit, without an end.

        keep: False forgets sound and codes once they were given, for hours of speech.
        """
        return SpeechStream(self, keep, **options)
