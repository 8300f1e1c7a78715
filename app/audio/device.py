"""A sound device, as PortAudio tells of it: what a talk chooses from and the doctor reports."""

import re
from dataclasses import dataclass

HEADPHONES = re.compile(r"airpods|headphone|headset|earbuds|earphone|buds|beats", re.IGNORECASE)
BLUETOOTH_RATES = (8_000, 16_000, 24_000)  # a headset whose microphone is in use


@dataclass(frozen=True)
class Device:
    """A sound device that can be chosen. `index` is PortAudio's, valid until the next scan."""

    name: str
    index: int
    inputs: int  # channels
    outputs: int
    rate_hz: float
    default_input: bool = False
    default_output: bool = False
    bluetooth: bool | None = None  # as the system says; None: it didn't

    @property
    def is_headphones(self) -> bool:
        """By its name, as far as a name tells."""
        return bool(HEADPHONES.search(self.name))
