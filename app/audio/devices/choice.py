"""Which devices a talk uses: names or the system's defaults -> a pair, and why. Pure."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from .device import Device

AIRPLAY = "AirPlay plays two seconds late, too late to talk"


# where a program only listens
NO_OUTPUT = Device("no loudspeaker", index=-1, inputs=0, outputs=0, rate_hz=SAMPLE_RATE_HZ)


class NoDeviceError(AudioError):
    """This machine has no microphone, or no loudspeaker."""


@dataclass(frozen=True)
class Pair:
    """The devices to open; `split`: their clocks differ; `notes`: lines that say why; `makeshift`:
    others than were asked for, or than the system's, which may come back."""

    input: Device
    output: Device
    notes: tuple[str, ...] = ()
    makeshift: bool = False

    @property
    def speaks(self) -> bool:
        return self.output is not NO_OUTPUT

    @property
    def split(self) -> bool:
        if not self.speaks:
            return False
        same = self.input.index == self.output.index
        return not (same or (self.input.is_built_in and self.output.is_built_in))

    @property
    def headset(self) -> bool:
        return self.output.is_headset

    @property
    def names(self) -> str:
        if self.input.name == self.output.name or not self.speaks:
            return self.input.name
        return f"{self.input.name} with {self.output.name}"


@dataclass(frozen=True)
class Wish:
    """What was asked for, a part of a name or an index each; None: the system's default."""

    input: str | None = None
    output: str | None = None
    channel: int = 1  # of the input
    speaks: bool = True  # False: the input alone


def choose(
    devices: Sequence[Device], wish: Wish = Wish(), strict: bool = True, lid_closed: bool = False
) -> Pair:
    """What to open. `lid_closed`: the Mac's own microphone is cut off.

    `strict` False: a device that was chosen and has gone is replaced by the default. Raises
    NoDeviceError where there is none, AudioError that lists what there is.
    """
    notes: list[str] = []
    output = NO_OUTPUT
    if wish.speaks:
        output = _one(devices, wish.output, _has_output, "output", strict, notes)
    if output.transport == "airplay":
        output = _without_airplay(devices, output, wish.output, notes)
    source = _one(devices, wish.input, _has_input, "input", strict, notes)
    if wish.input is None:
        source = _better_microphone(devices, source, lid_closed, notes)
    if wish.channel > source.inputs:
        raise AudioError(
            f"--input-channel {wish.channel}: {source.name} has {source.inputs}; choose one of them"
        )
    makeshift = bool(notes)
    if wish.input is not None and source.is_bluetooth_microphone:
        notes.append(
            f"microphone: {source.name} is a Bluetooth headset's, which sounds worse in both "
            "directions while its microphone is on"
        )
    return Pair(source, output, tuple(notes), makeshift)


def choose_output(devices: Sequence[Device], wish: Wish = Wish()) -> tuple[Device, list[str]]:
    """A loudspeaker alone, and why that one. Raises AudioError."""
    notes: list[str] = []
    output = _one(devices, wish.output, _has_output, "output", True, notes)
    if output.transport == "airplay":
        output = _without_airplay(devices, output, wish.output, notes)
    return output, notes


def _without_airplay(
    devices: Sequence[Device], output: Device, wanted: str | None, notes: list[str]
) -> Device:
    others = [d for d in devices if _has_output(d) and d.transport != "airplay"]
    if wanted is not None or not others:
        raise AudioError(f"{output.name}: {AIRPLAY}: choose another output")
    other = next((d for d in others if d.is_built_in), others[0])
    notes.append(f"speaker: {other.name} instead of {output.name}: {AIRPLAY}")
    return other


def _better_microphone(
    devices: Sequence[Device], source: Device, lid_closed: bool, notes: list[str]
) -> Device:
    """Than the system's default: not one that is cut off, and no Bluetooth one without need."""
    microphones = [d for d in devices if _has_input(d)]
    if lid_closed:
        others = [d for d in microphones if not d.is_internal_microphone]
        if not source.is_internal_microphone or not others:
            return source
        notes.append(
            f"microphone: {others[0].name} instead of {source.name}, which is cut off while the "
            "lid is closed"
        )
        return others[0]
    built_in = next((d for d in microphones if d.is_built_in), None)
    if not source.is_bluetooth_microphone or built_in is None:
        return source
    notes.append(
        f"microphone: {built_in.name} instead of {source.name}, since a Bluetooth headset "
        f"whose microphone is on sounds worse in both directions (--input {source.name!r} "
        "takes it all the same)"
    )
    return built_in


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
        raise NoDeviceError(f"no sound {kind}: connect a {what}, then try again")
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
