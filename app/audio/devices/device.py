"""A sound device, as PortAudio and the system tell of it: what a talk chooses from."""

import re
from dataclasses import dataclass

HEADSET = re.compile(r"airpods|headset|earbuds|earphone|buds|headphone", re.IGNORECASE)
BUILT_IN = re.compile(r"built-?in|macbook|imac|mac mini|mac studio|internal", re.IGNORECASE)
BLUETOOTH_RATES = (8_000, 16_000, 24_000)  # a headset whose microphone is in use
INTERNAL_MICROPHONE = "BuiltInMicrophoneDevice"  # its UID on every Mac; the jack's is another


@dataclass(frozen=True)
class Device:
    """A sound device that can be chosen. `index` is PortAudio's, valid until the next scan.

    A name is the user's own or in the user's language, so that what CoreAudio says counts where it
    says something: `transport`, "built-in", "bluetooth", "usb", "airplay" ... (None: it didn't),
    `uid`, and `source`, where an output's sound goes: "ispk" (speakers), "hdpn" (the jack) ...
    """

    name: str
    index: int
    inputs: int  # channels
    outputs: int
    rate_hz: float
    default_input: bool = False
    default_output: bool = False
    transport: str | None = None
    uid: str | None = None
    source: str | None = None

    @property
    def is_built_in(self) -> bool:
        if self.transport is not None:
            return self.transport == "built-in"
        return bool(BUILT_IN.search(self.name)) and not self.is_bluetooth_microphone

    @property
    def is_internal_microphone(self) -> bool:
        """The one that Apple's hardware cuts off while the lid is closed."""
        if self.uid is not None:
            return self.uid == INTERNAL_MICROPHONE
        return self.inputs > 0 and self.is_built_in

    @property
    def is_bluetooth_microphone(self) -> bool:
        """As the system says, else by name and rate: a headset's microphone runs at 8 to 24 kHz."""
        if not self.inputs:
            return False
        if self.transport is not None:
            return self.transport == "bluetooth"
        slow = int(self.rate_hz) in BLUETOOTH_RATES
        return (slow and not BUILT_IN.search(self.name)) or bool(HEADSET.search(self.name))

    @property
    def is_headset(self) -> bool:
        """Surely on somebody's ears: no echo. A jack may as well lead to a pair of loudspeakers."""
        return self.transport == "bluetooth" and bool(HEADSET.search(self.name))
