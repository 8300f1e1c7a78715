"""May the microphone be used, and which devices there are: kinds and rates, no names."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moshi_mlx.errors import AudioError

from ...audio.devices.device import Device
from ...audio.permission import PermissionAsk
from ..part import Deviation, Fallback, Note, NotHereError
from .site import SoundSite

ALLOW = Fallback("another terminal, or allow this one: System Settings > Privacy > Microphone")
CHOOSE = Fallback("other devices (--input, --output): see `moshi devices`")
POLL_S = 0.1
PATIENCE_S = 120.0  # a person reads the question


@dataclass(frozen=True)
class Permission:
    """macOS asks for the terminal, once; without it a microphone gives zeros and no error."""

    patience_s: float = PATIENCE_S
    name: str = "permission"
    fallback: Fallback = ALLOW

    def check(self, site: SoundSite) -> Iterable[Deviation | Note]:
        if site.permission is None:
            raise NotHereError("this system asks nobody")
        asking = PermissionAsk(site.permission)
        try:
            end_s = time.monotonic() + self.patience_s
            while (state := asking.look()) in (None, "", "not asked"):
                if time.monotonic() > end_s:
                    raise NotHereError("the system doesn't say")
                time.sleep(POLL_S)
        finally:
            asking.close()
        if state != "granted":
            raise AudioError(f"the microphone is {state} to this terminal")
        yield Note("granted")


@dataclass(frozen=True)
class Devices:
    """The pair that a talk would use, and what else there is."""

    name: str = "devices"
    fallback: Fallback = CHOOSE

    def check(self, site: SoundSite) -> Iterable[Deviation | Note]:
        with site.process() as process:
            pair = site.pair(process)
            yield Note(f"{kind(pair.input)} to {kind(pair.output)}")
            yield Note(f"inputs: {kinds([d for d in process.devices if d.inputs])}")
            yield Note(f"outputs: {kinds([d for d in process.devices if d.outputs])}")


def kind(device: Device) -> str:
    return f"{device.transport or 'unknown'} at {device.rate_hz:.0f} Hz"


def kinds(devices: Sequence[Device]) -> str:
    counts = Counter(device.transport or "unknown" for device in devices)
    return ", ".join(f"{n} {transport}" for transport, n in sorted(counts.items()))
