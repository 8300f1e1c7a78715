"""Judges an opened pair of devices: is it called, at the right rate, is anything heard? Pure.

What it finds `Attempts` is told of, so that a pair that gives no sound is opened otherwise next.
"""

from collections.abc import Sequence

from .attempts import Attempts, Sides
from .devices.choice import Pair
from .devices.device import Device
from .devices.watch import STOPPED, DeviceWatch, StarvationWatch
from .microphone_watch import USELESS_BESIDE, MicrophoneWatch, Tell
from .stream import memory as m
from .stream.memory import SoundMemory
from .stream.portaudio import StreamPlan

SOON_S = 5.0  # after the opening: a device that stops by then hasn't really worked
CRASH_SOON_S = 1.0  # the same of the sound process: what ends it later is something else


class PairWatch:
    """One for each opening; `tick` ten times a second, or `gone`, or `crashed`.

    All three raise AudioError once nothing is left to be tried.
    """

    def __init__(
        self,
        pair: Pair,
        plan: StreamPlan,
        devices: Sequence[Device],
        others: bool,
        attempts: Attempts,
        microphone: MicrophoneWatch,
        now_s: float,
        wall_s: float,
    ) -> None:
        """`others`: there is another microphone, and nobody asked for this one."""
        self._pair, self._plan, self._devices, self._others = pair, plan, devices, others
        self._attempts, self._microphone = attempts, microphone
        self._opened_s = now_s
        self._watch, self._starvation = DeviceWatch(now_s, wall_s), StarvationWatch()
        self._own_clock = plan.split or plan.output is None  # the microphone's calls tell its rate
        self.called = False  # each stream, for the first time
        microphone.opened(pair.input)

    def tick(self, now_s: float, wall_s: float, memory: SoundMemory, tell: Tell) -> str | None:
        """Why the devices are to be opened anew, or None."""
        get = memory.get
        calls, lost = get(m.CALLBACKS), get(m.INPUT_FLAGS)
        counts = (calls, get(m.RENDERS)) if self._plan.split else (calls,)
        self.called = self.called or all(counts)
        arrived = (memory.get_s(m.HEARD_S), get(m.HEARD))
        starved = self._starvation.tick(lost, get(m.OUTPUT_FLAGS))
        why = self._watch.tick(now_s, wall_s, counts, arrived, starved)
        if why == STOPPED:
            return self._stopped(now_s)
        unwell = self._microphone.tick(
            now_s, get(m.ZEROS), calls, lost, self._others, tell, starved, self._own_clock
        )
        if unwell in USELESS_BESIDE:
            self._attempts.silent(self._pair, self._devices, (True, False))
        return why or unwell

    def _stopped(self, now_s: float) -> str:
        silent = self._sides(self._watch.silent)
        if self.called:
            self._broke_off(silent, now_s, SOON_S)
            return STOPPED
        self._attempts.silent(self._pair, self._devices, silent)
        return f"{self._pair.names} opens but gives no sound"

    def gone(self, sides: Sides, now_s: float) -> None:
        """A stream has ended by itself."""
        self._broke_off(sides, now_s, SOON_S)

    def crashed(self, now_s: float) -> None:
        """The sound process has."""
        self._broke_off((True, True), now_s, CRASH_SOON_S)

    def _broke_off(self, sides: Sides, now_s: float, soon_s: float) -> None:
        soon = now_s - self._opened_s < soon_s
        self._attempts.broke_off(self._pair, self._devices, sides, soon)

    def _sides(self, silent: tuple[bool, ...]) -> Sides:
        """One stream is both."""
        return (silent[0], silent[-1])
