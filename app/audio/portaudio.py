"""PortAudio, and nothing else: which devices there are, and streams that call Callbacks.

The only module that imports sounddevice. It runs in a process of its own (`sound_child`), whose
standard streams lead nowhere: PortAudio and the libraries below it print their troubles. PortAudio
freezes its list of devices when it is initialised, so `scan(again=True)` starts it anew, which
needs all streams closed. Streams run at 24 kHz mono in blocks of 20 ms: the system converts rates
better than we could, and small blocks keep PortAudio's own buffers small.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from . import coreaudio
from .callbacks import BLOCK_SAMPLES, Callbacks
from .device import Device

# Seconds, or a word of PortAudio's. On macOS "low" makes the buffers of a slow Bluetooth headset
# longer than it can fill in one cycle: PortAudio takes the device's own latency off in samples of
# the device, from a wish in samples of the stream. A wish below every latency leaves one block.
SHORT = 0.001 if sys.platform == "darwin" else "low"
NO_LIBRARY = "PortAudio is missing: install it (Debian, Ubuntu: `apt install libportaudio2`)"


@dataclass(frozen=True)
class Plan:
    """Which devices to open, by PortAudio's numbers, and how."""

    input: int
    output: int
    split: bool  # their clocks differ: two streams
    latency: float | str = SHORT


def portaudio() -> Any:
    """The sounddevice module. Raises AudioError where the library is missing or doesn't start."""
    try:
        import sounddevice
    except OSError:
        raise AudioError(NO_LIBRARY) from None
    except Exception as error:  # PortAudio's own failure to initialise, at import
        raise AudioError(f"the sound system doesn't start: {one_line(error)}") from None
    return sounddevice


def one_line(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())[:200]


def scan(again: bool = False) -> list[Device]:
    """Every device; `again` asks the system anew. Raises AudioError."""
    sd = portaudio()
    try:
        if again:
            with contextlib.suppress(sd.PortAudioError):  # it may be down already
                sd._terminate()
            sd._initialize()
        found = sd.query_devices()
        first_in, first_out = sd.default.device
    except sd.PortAudioError as error:
        raise AudioError(f"the sound system doesn't answer: {one_line(error)}") from None
    bluetooth = coreaudio.default_input_is_bluetooth()
    return [
        Device(
            name=device["name"],
            index=index,
            inputs=device["max_input_channels"],
            outputs=device["max_output_channels"],
            rate_hz=device["default_samplerate"],
            default_input=index == first_in,
            default_output=index == first_out,
            bluetooth=bluetooth if index == first_in else None,
        )
        for index, device in enumerate(found)
    ]


class DeviceStream:
    """A running stream: one of PortAudio's, or two where the devices have clocks of their own.

    It ends with its process: PortAudio's own ways to stop have hung on every system.
    """

    def __init__(self, callbacks: Callbacks, plan: Plan, ended: Callable[[], None]) -> None:
        """`ended` is called on a PortAudio thread when the device stops. Raises AudioError."""
        sd = portaudio()
        self._streams: list[Any] = []
        common = {
            "samplerate": SAMPLE_RATE_HZ,
            "channels": 1,
            "dtype": "float32",
            "blocksize": BLOCK_SAMPLES,
            "latency": plan.latency,
            "finished_callback": ended,
        }

        def exchange(mic: Any, out: Any, frames: int, when: Any, flags: Any) -> None:
            if flags:
                callbacks.exchange(mic[:, 0], out[:, 0], input_lost(flags), output_late(flags))
            else:
                callbacks.exchange(mic[:, 0], out[:, 0])

        def capture(mic: Any, frames: int, when: Any, flags: Any) -> None:
            callbacks.capture(mic[:, 0], bool(flags) and input_lost(flags))

        def render(out: Any, frames: int, when: Any, flags: Any) -> None:
            callbacks.render(out[:, 0], bool(flags) and output_late(flags))

        try:
            if plan.split:
                self._open(sd.OutputStream(device=plan.output, callback=render, **common))
                self._open(sd.InputStream(device=plan.input, callback=capture, **common))
            else:
                both = (plan.input, plan.output)
                self._open(sd.Stream(device=both, callback=exchange, **common))
        except (sd.PortAudioError, ValueError) as error:
            for stream in self._streams:
                stream.close(ignore_errors=True)
            raise AudioError(one_line(error)) from None

    def _open(self, stream: Any) -> None:
        self._streams.append(stream)
        stream.start()


def input_lost(flags: Any) -> bool:
    """Samples of the microphone were discarded, or gaps filled with zeros."""
    return flags.input_overflow or flags.input_underflow


def output_late(flags: Any) -> bool:
    return flags.output_underflow
