"""When a speaker has ended: once for each pause after words."""

import numpy as np

from ..clock import frames_in

PAUSE_HEAD = 2  # the head of a pause of 2 s; it rises before that long has passed
PAUSE = 0.5
UNSURE_FRAMES = 12  # the heads are wild at first
QUIET_FRAMES = frames_in(2.0)  # without text, where the model has no heads


class EndOfTurn:
    """Source: the scripts of kyutai-labs/delayed-streams-modeling; unmute for the first frames."""

    def __init__(self) -> None:
        self._open = False  # words have come since the last end
        self._frames = self._quiet = 0

    def push(self, text: bool, pauses: np.ndarray | None) -> bool:
        """A frame: whether it brought text, pauses float32 [heads]; True where a turn ends."""
        self._frames += 1
        self._quiet = 0 if text else self._quiet + 1
        self._open = self._open or text
        if pauses is None or len(pauses) <= PAUSE_HEAD:
            ended = self._quiet >= QUIET_FRAMES
        else:
            ended = self._frames > UNSURE_FRAMES and float(pauses[PAUSE_HEAD]) > PAUSE
        if not (self._open and ended):
            return False
        self._open = False
        return True
