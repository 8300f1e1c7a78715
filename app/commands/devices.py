"""List the sound devices, and say which ones a talk would use."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from moshi_mlx.errors import UsageError, printable

from ..audio.devices.choice import NoDeviceError, Wish, choose
from ..audio.devices.device import Device
from ..audio.devices.lid import lid_closed
from ..audio.process.process import scan_devices
from ..audio.sound import Sound
from ..options.model import add_json_option


def configure(parser: argparse.ArgumentParser) -> None:
    add_device_options(parser)
    add_json_option(parser)


def add_device_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--input", metavar="NAME", help="microphone: a part of its name, or number")
    parser.add_argument("--output", metavar="NAME", help="loudspeaker: the same")
    parser.add_argument(
        "--input-channel",
        type=int,
        default=1,
        metavar="N",
        help="which of the input's channels the microphone is on (default: 1)",
    )


def add_microphone_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """For commands that only listen."""
    parser.add_argument("--input", metavar="NAME", help="microphone: a part of its name, or number")
    parser.add_argument(
        "--input-channel",
        type=int,
        default=1,
        metavar="N",
        help="which of its channels (default: 1)",
    )
    parser.add_argument(
        "--virtual-input", type=Path, metavar="FILE", help="a recording in place of a microphone"
    )


def microphone_from(args: argparse.Namespace) -> Sound:
    """What `add_microphone_options` names, found but not opened. Raises AudioError."""
    channel = checked_channel(args.input_channel)
    if args.virtual_input is None:
        from ..audio.device_sound import DeviceSound

        return DeviceSound(args.input, None, channel, speaks=False)
    if args.input or channel != 1:
        raise UsageError("--virtual-input is a device of its own: leave --input out")
    from ..audio.file_sound import FileSound

    return FileSound(args.virtual_input, None, 0.0)


def run(args: argparse.Namespace) -> int:
    devices = scan_devices()
    if not args.json:
        for device in devices:
            print(row(device))
    wish = Wish(args.input, args.output, checked_channel(args.input_channel))
    try:
        pair = choose(devices, wish, lid_closed=lid_closed())
    except NoDeviceError as error:  # what there is may do for a command that only hears, or speaks
        if args.json:
            listed = [asdict(device) for device in devices]
            told = {"devices": listed, "a_talk_would_use": None, "notes": [str(error)]}
            print(json.dumps(told))
        raise
    if args.json:
        chosen = {"input": pair.input.index, "output": pair.output.index}
        listed = [asdict(device) for device in devices]
        print(json.dumps({"devices": listed, "a_talk_would_use": chosen, "notes": [*pair.notes]}))
        return 0
    print(f"\na talk would use: {pair.input.name} (in), {pair.output.name} (out)")
    for note in pair.notes:
        print(note)
    return 0


def checked_channel(number: int) -> int:
    """Raises AudioError."""
    if number < 1:
        raise UsageError(f"--input-channel {number}: channels are counted from 1")
    return number


def row(device: Device) -> str:
    """One line: number, name, directions, rate, whether it is the system's default."""
    ways = [f"{device.inputs} in"] * bool(device.inputs) + [f"{device.outputs} out"] * bool(
        device.outputs
    )
    marks = ["default in"] * device.default_input + ["default out"] * device.default_output
    rate = f"{device.rate_hz / 1000:g} kHz"
    row = f"{device.index:>3}  {printable(device.name):<40} {', '.join(ways):<16} {rate:<9}"
    return f"{row}{device.transport or '':<11} {', '.join(marks)}".rstrip()
