"""A machine that can't keep up with a microphone: said once, and again after it had caught up."""

from collections.abc import Callable

LATE_S = 1.0  # sound that waits: more, and the machine is told to be too slow


class Lateness:
    """tell: takes the line."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._late = tell, False

    def check(self, waited_s: float) -> None:
        """So much sound had to wait for the model."""
        if waited_s > LATE_S and not self._late:
            self._tell(
                f"too slow: {waited_s:.1f} s of sound had to wait, and what waits too long is "
                "lost; take a smaller or quantized model (`moshi quantize`)"
            )
        self._late = waited_s > LATE_S
