"""A talk's sound process is ended or frozen: how long nothing is heard."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from moshi_mlx.errors import AudioError

from ...audio.device_sound import DeviceSound
from ..part import NONE, Deviation, Fallback, Note
from .site import SoundSite

READY_S = 2.0  # for a spare process to be ready
LIMIT_S = 10.0  # until it counts as never
LONGEST_S = 0.5
POLL_S = 0.002


@dataclass(frozen=True)
class Death:
    """`number`: the signal that the process gets."""

    name: str
    number: signal.Signals
    times: int = 3
    ready_s: float = READY_S
    fallback: Fallback = NONE

    def check(self, site: SoundSite) -> Iterable[Deviation | Note]:
        wish = site.wish
        sound = DeviceSound(wish.input, wish.output, wish.channel, site.command)
        outages_s = []
        try:
            sound.start()
            for _ in range(self.times):
                self._settle(sound)
                pid, hit_s = sound.process_id, time.monotonic()
                os.kill(pid, self.number)
                self._wait(sound, lambda hit_s=hit_s: sound.heard_s > hit_s + POLL_S)
                outages_s.append(sound.heard_s - hit_s)
        finally:
            sound.stop()
        yield Deviation("longest without sound", max(outages_s), LONGEST_S, "s")
        yield Note(f"heard again after {1000 * np.median(outages_s):.0f} ms")

    def _settle(self, sound: DeviceSound) -> None:
        heard_s = sound.heard_s
        self._wait(sound, lambda: sound.process_id > 0 and sound.heard_s > heard_s)
        time.sleep(self.ready_s)

    def _wait(self, sound: DeviceSound, condition) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            if sound.problem() is not None or time.monotonic() > end_s:
                raise AudioError(sound.problem() or f"nothing is heard for {LIMIT_S:.0f} s")
            time.sleep(POLL_S)
