"""PortAudio, and nothing else: which devices there are, and streams that call a Duplex.

The only module that imports sounddevice (in the process that talks). PortAudio freezes its list of
devices when it is initialised, so `scan(again=True)` starts it anew: all streams must be closed.
Streams run at 24 kHz mono in blocks of 20 ms: the system converts rates, better than we could, and
small blocks keep PortAudio's own buffers small.
"""

import atexit
import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from . import coreaudio
from .device import Device
from .duplex import BLOCK_SAMPLES, Duplex

FORMAT: dict[str, Any] = {
    "samplerate": SAMPLE_RATE_HZ,
    "channels": 1,
    "dtype": "float32",
    "blocksize": BLOCK_SAMPLES,
    "latency": "low",
}
LAST_CALLBACK_S = 0.3  # how long a stream that is asked to end is waited for
CLOSE_S = 0.8  # a stream that takes longer never closes
NO_LIBRARY = "PortAudio is missing: install it (Debian, Ubuntu: `apt install libportaudio2`)"


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
    quiet_libraries()
    try:
        if again:
            with contextlib.suppress(sd.PortAudioError):  # it may be down already
                sd._terminate()
            initialize(sd)
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


class Stream:
    """A running stream: one of PortAudio's, or two where the devices have clocks of their own."""

    def __init__(
        self, duplex: Duplex, source: Device, sink: Device, split: bool, ended: Callable[[], None]
    ) -> None:
        """`ended` is called on a PortAudio thread when the device stops. Raises AudioError."""
        sd = portaudio()
        self._error = sd.PortAudioError
        self._abort = sd.CallbackAbort
        self._ending = False
        self._streams: list[Any] = []
        common = FORMAT | {"finished_callback": ended}

        def exchange(mic: Any, out: Any, frames: int, when: Any, flags: Any) -> None:
            duplex.exchange(mic[:, 0], out[:, 0], bool(flags))
            self._end_if_asked()

        def capture(mic: Any, frames: int, when: Any, flags: Any) -> None:
            duplex.capture(mic[:, 0], bool(flags))
            self._end_if_asked()

        def render(out: Any, frames: int, when: Any, flags: Any) -> None:
            duplex.render(out[:, 0], bool(flags))
            self._end_if_asked()

        try:
            if split:
                self._open(sd.OutputStream(device=sink.index, callback=render, **common))
                self._open(sd.InputStream(device=source.index, callback=capture, **common))
            else:
                both = (source.index, sink.index)
                self._open(sd.Stream(device=both, callback=exchange, **common))
        except (sd.PortAudioError, ValueError) as error:
            self.close()
            names = source.name if source == sink else f"{source.name} with {sink.name}"
            raise AudioError(
                f"{names} can't be opened ({one_line(error)}); see `moshi devices` for others"
            ) from None

    def _open(self, stream: Any) -> None:
        self._streams.append(stream)
        stream.start()

    def _end_if_asked(self) -> None:
        if self._ending:
            raise self._abort

    def close(self) -> bool:
        """End it without playing what waits; safe when the device has gone. False: it hangs.

        The callback ends by itself if it is still called. Linux's PortAudio would cancel its thread
        otherwise, wherever that is just then: within Python's lock, or PulseAudio's, which nobody
        gets any more then.
        """
        self._ending = True
        closer = threading.Thread(target=self._close, name="moshi-closer", daemon=True)
        closer.start()
        closer.join(CLOSE_S)
        return not closer.is_alive()

    def _close(self) -> None:
        streams, self._streams = self._streams, []
        deadline_s = time.monotonic() + LAST_CALLBACK_S
        for stream in streams:
            with contextlib.suppress(self._error):
                while stream.active and time.monotonic() < deadline_s:
                    time.sleep(0.005)
        for stream in streams:
            with contextlib.suppress(self._error):
                stream.abort(ignore_errors=True)
            with contextlib.suppress(self._error):
                stream.close(ignore_errors=True)


def initialize(sd: Any) -> None:
    """As `sd._initialize`, which sends descriptor 2 to /dev/null meanwhile: what another thread
    writes to the terminal then (the screen, a notice) would be lost.
    """
    sd._check(sd._lib.Pa_Initialize(), "Error initializing PortAudio")
    sd._initialized += 1


def start_afresh() -> bool:
    """PortAudio hangs for good: leave it where it is and load a second one, where that is possible.

    The loader takes a copy of the file for another library, with a state of its own.
    """
    sd = portaudio()
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
        path = next(line.split()[-1] for line in maps if "libportaudio" in line)
        with tempfile.TemporaryDirectory() as folder:
            sd._lib = sd._ffi.dlopen(shutil.copy(path, folder))
        sd._initialized = 0
        initialize(sd)
    except (OSError, StopIteration, sd.PortAudioError):
        atexit.unregister(sd._exit_handler)  # it would hang as well
        return False
    return True


_ALSA_HANDLER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
)
_JACK_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_alsa_silent = _ALSA_HANDLER(lambda *_: None)  # kept: the libraries hold on to them
_jack_silent = _JACK_HANDLER(lambda _: None)


def quiet_libraries() -> None:
    """ALSA and JACK write their troubles straight to the terminal, over any screen: let them not.

    Only once PortAudio is loaded, so that JACK is there if it is used at all.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_alsa_silent)
    with contextlib.suppress(OSError, AttributeError):
        jack = ctypes.CDLL("libjack.so.0", mode=os.RTLD_NOLOAD)
        jack.jack_set_error_function(_jack_silent)
        jack.jack_set_info_function(_jack_silent)
