"""How a pair of devices is opened, from what is best to what still gives sound where that doesn't.

A stream that opens and is never called is as common as one that is refused: the next way is tried
for both.
"""

from collections.abc import Sequence
from dataclasses import replace

from .devices.choice import Pair
from .devices.device import Device
from .stream.portaudio import StreamPlan


def plans(pair: Pair, channel: int = 1) -> list[StreamPlan]:
    """The ways in their order: as it should be; two streams; longer buffers; the devices' rates."""
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


def without(
    devices: Sequence[Device], dead_inputs: set[str], dead_outputs: set[str]
) -> list[Device]:
    """The devices, less the directions that gave no sound whatever was tried."""
    return [
        replace(
            device,
            inputs=0 if device.name in dead_inputs else device.inputs,
            outputs=0 if device.name in dead_outputs else device.outputs,
        )
        for device in devices
    ]
