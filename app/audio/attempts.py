"""How a pair of devices is opened, from what is best to what still gives sound where that doesn't.

A stream that opens and is never called is as common as one that is refused, and one that breaks off
again and again is no better: the next way is tried for all of them, then other devices.
"""

from collections.abc import Sequence
from dataclasses import replace

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from .devices.choice import Pair, Wish, choose
from .devices.device import Device
from .stream.portaudio import StreamPlan

MOST_BREAKS = 3  # in a row, each soon after the opening; headsets break off once or twice
Sides = tuple[bool, bool]  # input, output


def plans(pair: Pair, channel: int = 1) -> list[StreamPlan]:
    """The ways in their order: as it should be; two streams; longer buffers; the devices' rates."""
    if not pair.speaks:
        alone = StreamPlan(pair.input.index, None, split=False, channel=channel)
        long = replace(alone, latency="high")
        return [alone, long, replace(long, own_rates_hz=(pair.input.rate_hz, SAMPLE_RATE_HZ))]
    first = StreamPlan(pair.input.index, pair.output.index, pair.split, channel=channel)
    apart = replace(first, split=True)
    long = replace(apart, latency="high")
    own = replace(long, own_rates_hz=(pair.input.rate_hz, pair.output.rate_hz))
    return [first, long, own] if pair.split else [first, apart, long, own]


def output_plans(output: Device) -> list[StreamPlan]:
    """The ways to open a loudspeaker alone, in their order."""
    first = StreamPlan(None, output.index, split=True)
    long = replace(first, latency="high")
    return [first, long, replace(long, own_rates_hz=(output.rate_hz, output.rate_hz))]


class Attempts:
    """Which way each pair is opened in, and which devices gave no sound in any. Pure."""

    def __init__(self) -> None:
        self._ways: dict[str, int] = {}  # names of a pair -> which of its plans is used
        self._breaks: dict[str, int] = {}  # names of a pair -> times that way broke off in a row
        self._dead: tuple[set[str], set[str]] = (set(), set())  # names of inputs, outputs

    @property
    def any_dead(self) -> bool:
        return any(self._dead)

    def forget_the_dead(self) -> None:
        for names in self._dead:
            names.clear()

    def living(self, devices: Sequence[Device]) -> list[Device]:
        """The devices, less the directions that gave no sound whatever was tried.

        What has been unplugged since begins anew when it is back.
        """
        for names in self._dead:
            names.intersection_update(device.name for device in devices)
        dead_inputs, dead_outputs = self._dead
        return [
            replace(
                device,
                inputs=0 if device.name in dead_inputs else device.inputs,
                outputs=0 if device.name in dead_outputs else device.outputs,
            )
            for device in devices
        ]

    def ways(self, pair: Pair, channel: int) -> list[tuple[int, StreamPlan]]:
        """Numbers and plans, from the one in use on."""
        numbered = list(enumerate(plans(pair, channel)))
        return numbered[min(self._ways.get(pair.names, 0), len(numbered) - 1) :]

    def opened(self, pair: Pair, number: int) -> None:
        """In the way of that number."""
        if self._ways.get(pair.names) != number:
            self._breaks.pop(pair.names, None)
        self._ways[pair.names] = number

    def refused(self, pair: Pair) -> None:
        """In every way: later all are tried again."""
        self._ways.pop(pair.names, None)

    def crashed(self, pair: Pair, number: int) -> None:
        """The way of that number ended the process while it was opened."""
        self._ways[pair.names] = min(number + 1, len(plans(pair)) - 1)

    def silent(self, pair: Pair, devices: Sequence[Device], silent: Sides) -> None:
        """The way in use gives no sound, on these sides: the next, then other devices.

        Raises AudioError where none is left: the talk is over.
        """
        number = self._ways.get(pair.names, 0) + 1
        self._ways[pair.names] = number
        self._breaks.pop(pair.names, None)
        if number < len(plans(pair)):
            return
        self._ways.pop(pair.names)
        for names, device, is_silent in zip(
            self._dead, (pair.input, pair.output), silent, strict=True
        ):
            if is_silent:
                names.add(device.name)
        try:
            choose(self.living(devices), Wish(speaks=pair.speaks))
        except AudioError:
            who = f"{pair.input.name} and {pair.output.name} open but give"
            who = who if pair.speaks else f"{pair.input.name} opens but gives"
            raise AudioError(
                f"{who} no sound, whatever is tried: restart the computer's sound system"
            ) from None

    def broke_off(self, pair: Pair, devices: Sequence[Device], silent: Sides, soon: bool) -> None:
        """The way in use gave sound and then no more; `soon`: hardly had it begun.

        Raises AudioError as `silent` does, which is what it comes to in the end.
        """
        times = self._breaks.get(pair.names, 0) + 1 if soon else 0
        self._breaks[pair.names] = times
        if times >= MOST_BREAKS:
            self.silent(pair, devices, silent)
