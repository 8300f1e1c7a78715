"""Which devices a talk uses: names or the system's defaults -> a pair, and why. Pure."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moshi_mlx.errors import AudioError

from .device import BLUETOOTH_RATES, Device

BUILT_IN = re.compile(r"built-?in|macbook|imac|mac mini|mac studio|internal", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """The devices to open; `split`: their clocks differ; `notes`: lines that say why."""

    input: Device
    output: Device
    notes: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        same = self.input.index == self.output.index
        return not (same or (is_built_in(self.input) and is_built_in(self.output)))

    @property
    def headphones(self) -> bool:
        return self.output.is_headphones


def is_built_in(device: Device) -> bool:
    return bool(BUILT_IN.search(device.name)) and not is_bluetooth_microphone(device)


def is_bluetooth_microphone(device: Device) -> bool:
    """As the system says, else by name and rate: a headset's microphone runs at 8 to 24 kHz."""
    if not device.inputs:
        return False
    if device.bluetooth is not None:
        return device.bluetooth
    slow = int(device.rate_hz) in BLUETOOTH_RATES
    return (slow and not BUILT_IN.search(device.name)) or device.is_headphones


def choose(
    devices: Sequence[Device],
    input_name: str | None = None,
    output_name: str | None = None,
    strict: bool = True,
) -> Pair:
    """Names (a part, or an index; None: the system's default) -> what to open.

    `strict` False: a device that was chosen and has gone is replaced by the default. Raises
    AudioError that lists what there is.
    """
    notes: list[str] = []
    output = _one(devices, output_name, _has_output, "output", strict, notes)
    source = _one(devices, input_name, _has_input, "input", strict, notes)
    if input_name is None and is_bluetooth_microphone(source):
        built_in = next((d for d in devices if _has_input(d) and is_built_in(d)), None)
        if built_in is not None:
            notes.append(
                f"microphone: {built_in.name} instead of {source.name}, since a Bluetooth headset "
                f"whose microphone is on sounds worse in both directions (--input {source.name!r} "
                "takes it all the same)"
            )
            source = built_in
    return Pair(source, output, tuple(notes))


def _has_input(device: Device) -> bool:
    return device.inputs > 0


def _has_output(device: Device) -> bool:
    return device.outputs > 0


def _one(
    devices: Sequence[Device],
    wanted: str | None,
    fits: Callable[[Device], bool],
    kind: str,
    strict: bool,
    notes: list[str],
) -> Device:
    able = [device for device in devices if fits(device)]
    if not able:
        what = "microphone" if kind == "input" else "speaker or headphones"
        raise AudioError(f"no sound {kind}: connect a {what}, then try again")
    if wanted is not None:
        try:
            return named(able, wanted, kind)
        except AudioError:
            if strict:
                raise
            notes.append(f"{kind}: {wanted} is gone, so the system's default serves meanwhile")
    flag = f"default_{kind}"
    return next((device for device in able if getattr(device, flag)), able[0])


def named(able: Sequence[Device], wanted: str, kind: str) -> Device:
    """By index (a number is nothing else) or by a part of the name. Raises AudioError."""
    part = wanted.casefold()
    if wanted.isdigit():
        found = [device for device in able if device.index == int(wanted)]
    else:
        exact = [device for device in able if device.name.casefold() == part]
        found = exact or [device for device in able if part in device.name.casefold()]
    if len({device.name for device in found}) > 1:
        names = ", ".join(f"{device.index} {device.name}" for device in found)
        raise AudioError(f"--{kind} {wanted} fits several: {names}; give its number")
    if found:
        return found[0]
    close = difflib.get_close_matches(wanted, [device.name for device in able], n=1)
    names = ", ".join(f"{device.index} {device.name}" for device in able)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {names}"
    raise AudioError(f"no sound {kind} called {wanted!r}; {hint}")
