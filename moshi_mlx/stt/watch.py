"""Speech that no text comes of: the model has fallen silent, and its state is begun anew.

Kyutai's 1B does so now and then and stays silent for minutes; a fresh state that hears the last
seconds again goes on. Source: kyutai-labs/delayed-streams-modeling, issue 146.
"""

from ..clock import frames_in

PATIENCE_FRAMES = frames_in(10.0)  # of speech without text
PATIENCE_MAX_FRAMES = frames_in(160.0)  # where beginning anew brought no text either
REPLAY_FRAMES = frames_in(15.0)  # heard again, at most


class SpeechWatch:
    """Counts the frames since the last text, and those with speech in them."""

    def __init__(self, patience: int = PATIENCE_FRAMES) -> None:
        """patience: frames of speech without text that are waited for."""
        self._first = self._patience = patience
        self.frames = self._speech = 0

    @property
    def due(self) -> bool:
        """Whether to begin anew."""
        return self._speech >= self._patience

    def take(self, speech: bool, text: bool) -> None:
        """A frame: whether somebody speaks, and whether it brought text."""
        if text:
            self._patience = self._first
            self.frames = self._speech = 0
            return
        self.frames += 1
        self._speech += speech

    def begun_anew(self) -> None:
        """Twice as patient until text comes: it may be music."""
        self._patience = min(2 * self._patience, PATIENCE_MAX_FRAMES)
        self.frames = self._speech = 0
