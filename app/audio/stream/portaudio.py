"""PortAudio, and nothing else: which devices there are, and streams that call Callbacks.

The only module that imports sounddevice. It runs in the sound process (`process/child.py`), whose
standard streams lead nowhere: PortAudio and the libraries below it print their troubles. PortAudio
freezes its list of devices when it is initialised, so `scan(again=True)` starts it anew, which
needs all streams closed. Streams run at 24 kHz mono in blocks of 20 ms: the system converts rates
better than we could, and small blocks keep PortAudio's own buffers small.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from ..devices import coreaudio
from ..devices.device import Device
from .callbacks import BLOCK_SAMPLES, Callbacks
from .memory import Floats
from .resampler import Resampler

# Seconds, or a word of PortAudio's. On macOS "low" makes the buffers of a slow Bluetooth headset
# longer than it can fill in one cycle: PortAudio takes the device's own latency off in samples of
# the device, from a wish in samples of the stream. A wish below every latency leaves one block.
SHORT = 0.001 if sys.platform == "darwin" else "low"
NO_LIBRARY = "PortAudio is missing: install it (Debian, Ubuntu: `apt install libportaudio2`)"
Ended = Callable[[bool, bool], None]  # the input's stream, the output's


@dataclass(frozen=True)
class StreamPlan:
    """Which devices to open, by PortAudio's numbers, and how."""

    input: int | None  # None: nothing is heard; split then
    output: int | None  # None: nothing is played; not split then
    split: bool  # their clocks differ: two streams
    latency: float | str = SHORT
    channel: int = 1  # of the input
    own_rates_hz: tuple[float, float] | None = None  # of both, resampled here; split then


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
    devices = [
        Device(
            name=device["name"],
            index=index,
            inputs=device["max_input_channels"],
            outputs=device["max_output_channels"],
            rate_hz=device["default_samplerate"],
            default_input=index == first_in,
            default_output=index == first_out,
        )
        for index, device in enumerate(found)
    ]
    return coreaudio.with_hardware(devices, coreaudio.hardware())


class DeviceStream:
    """A running stream: one of PortAudio's, or two where the devices have clocks of their own.

    It ends with its process: PortAudio's own ways to stop have hung on every system.
    """

    def __init__(self, callbacks: Callbacks, plan: StreamPlan, ended: Ended) -> None:
        """`ended` is called on a PortAudio thread when a device stops. Raises AudioError."""
        sd = portaudio()
        self._streams: list[Any] = []
        common = {"dtype": "float32", "latency": plan.latency}
        calls = Calls(callbacks, plan)
        sides = (calls.input | common, calls.output | common)
        ends = (partial(ended, True, False), partial(ended, False, True))
        try:
            if plan.split:
                self._open(sd.RawOutputStream, calls.render, sides[1], ends[1])
                if plan.input is not None:
                    self._open(sd.RawInputStream, calls.capture, sides[0], ends[0])
            elif plan.output is None:
                self._open(sd.RawInputStream, calls.capture, sides[0], ends[0])
            else:
                both = sides[0] | {
                    name: tuple(side[name] for side in sides) for name in ("device", "channels")
                }
                self._open(sd.RawStream, calls.exchange, both, partial(ended, True, True))
        except (sd.PortAudioError, ValueError) as error:
            for stream in self._streams:
                stream.close(ignore_errors=True)
            raise AudioError(one_line(error)) from None

    def _open(self, kind: Any, callback: Any, options: dict[str, Any], ended: Any) -> None:
        self._streams.append(kind(callback=callback, finished_callback=ended, **options))
        self._streams[-1].start()


class Calls:
    """What PortAudio calls: float32 [frames, channels] as bytes, good for one call, and flags.

    24 kHz mono on our side. Arrays, which sounddevice makes as well, would cost half a callback.
    """

    def __init__(self, callbacks: Callbacks, plan: StreamPlan) -> None:
        self._callbacks, self._channels = callbacks, plan.channel  # the last of them is heard
        ours = {"samplerate": SAMPLE_RATE_HZ, "blocksize": BLOCK_SAMPLES}
        self.input: dict[str, Any] = {"device": plan.input, "channels": plan.channel} | ours
        self.output: dict[str, Any] = {"device": plan.output, "channels": 1} | ours
        self.capture, self.render = self._capture, self._render
        if plan.own_rates_hz is not None:
            in_hz, out_hz = plan.own_rates_hz
            self.input |= {"samplerate": in_hz, "blocksize": 0}
            self.output |= {"samplerate": out_hz, "blocksize": 0}
            self._down, self._up = (
                Resampler(in_hz, SAMPLE_RATE_HZ),
                Resampler(SAMPLE_RATE_HZ, out_hz),
            )
            self._block = np.zeros(BLOCK_SAMPLES, np.float32)
            self._ahead = np.zeros(0, np.float32)  # for the speaker, at its rate
            self.capture, self.render = self._capture_converted, self._render_converted

    def exchange(self, mic: Any, out: Any, frames: int, when: Any, flags: Any) -> None:
        mic, out = self._heard(mic), memoryview(out).cast("f")
        if flags:
            self._callbacks.exchange(mic, out, input_lost(flags), output_late(flags))
        else:
            self._callbacks.exchange(mic, out)

    def _capture(self, mic: Any, frames: int, when: Any, flags: Any) -> None:
        self._callbacks.capture(self._heard(mic), bool(flags) and input_lost(flags))

    def _render(self, out: Any, frames: int, when: Any, flags: Any) -> None:
        late = bool(flags) and output_late(flags)
        self._callbacks.render(memoryview(out).cast("f"), late)

    def _capture_converted(self, mic: Any, frames: int, when: Any, flags: Any) -> None:
        heard = self._down.push(np.asarray(self._heard(mic)))
        self._callbacks.capture(heard, bool(flags) and input_lost(flags))

    def _render_converted(self, out: Any, frames: int, when: Any, flags: Any) -> None:
        late = bool(flags) and output_late(flags)
        while len(self._ahead) < frames:
            self._callbacks.render(self._block, late)
            self._ahead = np.concatenate([self._ahead, self._up.push(self._block)])
            late = False
        np.frombuffer(out, np.float32)[:] = self._ahead[:frames]
        self._ahead = self._ahead[frames:]

    def _heard(self, mic: Any) -> Floats:
        return memoryview(mic).cast("f")[self._channels - 1 :: self._channels]


def input_lost(flags: Any) -> bool:
    """Samples of the microphone were discarded, or gaps filled with zeros."""
    return flags.input_overflow or flags.input_underflow


def output_late(flags: Any) -> bool:
    return flags.output_underflow
