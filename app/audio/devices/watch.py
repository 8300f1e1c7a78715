"""Tells when a sound device is lost though nobody says so. Pure: times and counts in, why out."""

from collections import deque
from statistics import median

from moshi_mlx.clock import SAMPLE_RATE_HZ

SILENCE_S = 0.5  # without a callback
FIRST_CALLBACK_S = 3.0  # what a Bluetooth device may take to begin
RATE_TOLERANCE = 0.02
BASE_TICKS = 10  # a rate is measured over a second of 0.1 s ticks
PAIRS = 25  # and the median of these counts, which one hiccup can't move
SETTLE_S = 1.0  # streams begin with a burst
STOPPED = "the sound device has stopped"
SLEPT = "the computer has slept"
SLEEP_S = 3.0  # a step of the wall clock against ours, or of ours between two ticks


class DeviceWatch:
    """One for each opened stream; `tick` it every 0.1 s."""

    def __init__(self, now_s: float, wall_s: float) -> None:
        self._opened_s = self._now_s = now_s
        self._wall_s = wall_s
        self._counts: tuple[int, ...] = ()
        self._grew_s: list[float] = []  # when each count did
        self._begun = False
        self.silent: tuple[bool, ...] = ()  # which of them have stopped
        self._points: deque[tuple[float, int]] = deque(maxlen=BASE_TICKS + PAIRS)

    def tick(
        self,
        now_s: float,
        wall_s: float,
        counts: tuple[int, ...],
        arrived: tuple[float, int],
        starved: bool = False,
    ) -> str | None:
        """Why the device counts as lost, or None.

        counts: callbacks so far of each stream; arrived: (time, samples) of the newest input;
        starved: the machine is too busy, and what it loses says nothing of the microphone's rate.
        """
        step_s, wall_step_s = now_s - self._now_s, wall_s - self._wall_s
        self._now_s, self._wall_s = now_s, wall_s
        if step_s > SLEEP_S or wall_step_s - step_s > SLEEP_S:
            return SLEPT
        if self._have_stopped(now_s, counts):
            return STOPPED
        if starved:
            self._points.clear()
            return None
        return self._rate_off(now_s, arrived)

    def _have_stopped(self, now_s: float, counts: tuple[int, ...]) -> bool:
        """Any of the streams. They are given time until each has begun."""
        if not self._counts:
            self._counts, self._grew_s = counts, [self._opened_s] * len(counts)
        if not self._begun and all(counts):
            self._begun, self._grew_s = True, [now_s] * len(counts)
        for number, (new, old) in enumerate(zip(counts, self._counts, strict=True)):
            if new > old:
                self._grew_s[number] = now_s
        self._counts = counts
        limit_s = SILENCE_S if self._begun else FIRST_CALLBACK_S
        self.silent = tuple(now_s - grew_s > limit_s for grew_s in self._grew_s)
        return any(self.silent)

    def _rate_off(self, now_s: float, arrived: tuple[float, int]) -> str | None:
        if now_s - self._opened_s < SETTLE_S:
            return None
        if not self._points or arrived[0] > self._points[-1][0]:
            self._points.append(arrived)
        if (rate_hz := self.rate_hz()) is None:
            return None
        if abs(rate_hz / SAMPLE_RATE_HZ - 1) <= RATE_TOLERANCE:
            return None
        return f"the microphone runs at {rate_hz / 1000:.1f} kHz instead of 24"

    def rate_hz(self) -> float | None:
        """Measured input rate; None before there is enough to measure."""
        points = list(self._points)
        if len(points) < BASE_TICKS + PAIRS:
            return None
        ends = zip(points, points[BASE_TICKS:], strict=False)
        return median((s1 - s0) / (t1 - t0) for (t0, s0), (t1, s1) in ends)


STARVED_SHARE = 0.5  # of the callbacks that lost input: so many were late with output, too


class StarvationWatch:
    """Tells when this machine is too busy for its sound: then callbacks come late, and output is
    missing where input is lost. A microphone of another rate loses input alone."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque(maxlen=BASE_TICKS + 1)

    def tick(self, flagged: int, late: int) -> bool:
        """Every 0.1 s: callbacks so far that lost input, and that were late with output."""
        self._points.append((flagged, late))
        flagged0, late0 = self._points[0]
        return late > late0 and late - late0 >= STARVED_SHARE * (flagged - flagged0)


FLAGGED = "the microphone's rate has changed"
FLAGS_SHARE = 0.25  # of the callbacks of a second
FLAGS_AGAIN_S = 60.0  # a device that is flagged again so soon after an opening is just like that


class FlagWatch:
    """Tells when input is lost in so many callbacks that the microphone must run at another rate.

    A stream in both directions is called by the speaker's clock, so that its calls don't tell.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque(maxlen=BASE_TICKS + 1)
        self._told_s: float | None = None
        self.hopeless = False  # opening anew didn't help
        self.starved = False  # it was the machine that lost so much

    def reopened(self) -> None:
        self._points.clear()
        self.hopeless = False

    def tick(self, now_s: float, calls: int, flagged: int, starved: bool = False) -> str | None:
        """Every 0.1 s: callbacks and flagged ones so far. FLAGGED once for each time, or None.

        starved: the machine is too busy, as `StarvationWatch` tells.
        """
        self._points.append((calls, flagged))
        (calls0, flagged0), full = self._points[0], len(self._points) == self._points.maxlen
        if not full or flagged - flagged0 <= FLAGS_SHARE * (calls - calls0) or calls == calls0:
            return None
        self._points.clear()
        if starved:
            self.starved = True
            return None
        if self._told_s is not None and now_s - self._told_s < FLAGS_AGAIN_S:
            self.hopeless = True
            return None
        self._told_s = now_s
        return FLAGGED
