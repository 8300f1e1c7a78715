"""The system's sound settings have changed: does that concern the devices that are open?"""

from .devices.choice import Pair, Wish
from .devices.coreaudio import Fingerprint


def concerns(old: Fingerprint, new: Fingerprint, wish: Wish, pair: Pair) -> bool:
    """A default that is followed has moved or runs at another rate, or a device that was missed may
    be back."""
    if wish.input is None and _input(old) != _input(new):
        return True
    if wish.output is None and wish.speaks and _output(old) != _output(new):
        return True
    return old.devices != new.devices and pair.makeshift


def _input(settings: Fingerprint) -> tuple:
    return settings.default_input, settings.rates_hz[0]


def _output(settings: Fingerprint) -> tuple:
    return settings.default_output, settings.rates_hz[1]
