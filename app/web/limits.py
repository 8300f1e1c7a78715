"""Rates, in both directions, as plain objects that are told the time: what a client may send, and
how fast replies may go out to clients that cut off bursts.
"""

from moshi_mlx.clock import FRAME_SECONDS


class Bucket:
    """A token bucket: `per_s` on average, `burst` at once."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at_s = burst, 0.0

    def take(self, amount: float, now_s: float) -> bool:
        """Whether `amount` may pass now. Nothing is taken when it may not."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if amount > self._left:
            return False
        self._left -= amount
        return True


class InputLimit:
    """What one client may send: twenty times what a talking client does, so only floods hit it."""

    def __init__(self) -> None:
        self._messages = Bucket(per_s=200, burst=1000)
        self._bytes = Bucket(per_s=1_000_000, burst=4_000_000)
        self._sound_s = Bucket(per_s=3, burst=30)  # what a network that hung lets go at once
        self._pings = Bucket(per_s=5, burst=20)

    def decodes(self, seconds: float, now_s: float) -> bool:
        """Whether so much sound is worth the time to decode it."""
        return self._sound_s.take(seconds, now_s)

    def answers(self, now_s: float) -> bool:
        """Whether a ping is answered; nobody needs more than a few in a second."""
        return self._pings.take(1, now_s)

    def allows(self, message_bytes: int, now_s: float) -> bool:
        return self._messages.take(1, now_s) and self._bytes.take(message_bytes, now_s)


class Pacer:
    """Lets one frame out each 76 ms at most: Kyutai's clients cut or pile up anything faster.

    A little faster than real time, so that a backlog melts instead of staying for good.
    """

    INTERVAL_S = 0.95 * FRAME_SECONDS

    def __init__(self) -> None:
        self._due_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next frame may go."""
        return max(0.0, self._due_s - now_s)

    def sent(self, now_s: float) -> None:
        self._due_s = max(self._due_s, now_s) + self.INTERVAL_S
