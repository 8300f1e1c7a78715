"""Microphone and loudspeaker that may change, vanish and return while the talk goes on.

A Sound on real devices. Its thread watches the stream ten times a second and opens it again, on
whatever there is, when the device stopped, fell silent, runs at another rate, was changed in the
system's settings, or the computer has slept.
"""

import sys
import threading
import time
from collections.abc import Callable

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from ..events import Notice
from . import coreaudio, portaudio
from .device import Device
from .device_choice import Pair, choose
from .device_watch import DeviceWatch
from .duplex import Duplex
from .keep_awake import KeepAwake
from .sound import SoundState

TICK_S = 0.1
SETTINGS_EVERY_TICKS = 10
RETRY_S = (0.1, 0.2, 0.4, 0.8)  # then every 0.8 s
ZEROS_S = 2.0  # of exact zeros: no microphone is that quiet
HANGS = "the sound system hangs since its device went: the talk is over, start moshi again"
MAC_ADVICE = (
    "allow this terminal in System Settings > Privacy & Security > Microphone, then start it again"
)
LINUX_ADVICE = "is it muted, or is another input the right one? See `moshi devices` and --input"


class DeviceSound(Duplex):
    """See sound.Sound. All of PortAudio is called on one thread at a time."""

    def __init__(self, input_name: str | None = None, output_name: str | None = None) -> None:
        """Raises AudioError when there is no device, or none of that name."""
        super().__init__()
        self.on_notice: Callable[[Notice], None] = lambda notice: None
        self._wanted = (input_name, output_name)
        self._stream: portaudio.Stream | None = None
        self._pair: Pair | None = None
        self._devices = portaudio.scan()
        pair = choose(self._devices, input_name, output_name)
        if input_name is not None or output_name is not None:  # numbers change with the next scan
            self._wanted = (
                None if input_name is None else pair.input.name,
                None if output_name is None else pair.output.name,
            )
        self._fingerprint: coreaudio.Fingerprint | None = None
        self._gone = threading.Event()  # set by PortAudio's finished callback
        self._stopping, self._rechoose = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="moshi-devices", daemon=True)
        self._awake = KeepAwake()
        self._reopened, self._ticks, self._told_silent = 0, 0, False
        self._failure: str | None = None

    def start(self) -> None:
        """Raises AudioError when the devices can't be opened."""
        self._open(strict=True)
        self._awake.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self._close():
            portaudio.start_afresh()  # or else the process couldn't end
        self._awake.stop()

    def state(self) -> SoundState:
        pair, lost = self._pair, self._stream is None
        names = ("", "") if pair is None else (pair.input.name, pair.output.name)
        headphones = pair is not None and pair.headphones
        return SoundState(*names, lost, headphones, self._reopened, self.xruns, self._wanted)

    def devices(self) -> list[Device]:
        return list(self._devices)

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        """Names, parts of them or indexes; None follows the system. Done within a second."""
        self._wanted = (input_name, output_name)
        self._rechoose.set()

    def problem(self) -> str | None:
        return self._failure

    def _open(self, strict: bool) -> None:
        pair = choose(self._devices, *self._wanted, strict=strict)
        self._gone = ended = threading.Event()  # a late call of an old stream must not end this
        self._fingerprint = coreaudio.fingerprint()
        self._stream = portaudio.Stream(self, pair.input, pair.output, pair.split, ended.set)
        self._watch = DeviceWatch(time.monotonic(), time.time())
        self._counted = (self.callbacks, self.renders)
        if pair.notes and (self._pair is None or pair.notes != self._pair.notes):
            for note in pair.notes:
                self.on_notice(Notice("device-choice", note))
        self._pair = pair

    def _close(self) -> bool:
        """False: PortAudio hangs, and this process will have no sound any more."""
        stream, self._stream = self._stream, None
        return stream is None or stream.close()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(TICK_S):
                why = self._why_reopen()
                if why is not None:
                    self._reopen(why)
                self._watch_for_silence()
        except Exception as error:  # thread boundary: without it the talk would be deaf for good
            self._failure = f"the sound devices can't be watched: {type(error).__name__}: {error}"
            self.end_input()

    def _why_reopen(self) -> str | None:
        self._ticks += 1
        if self._rechoose.is_set():
            self._rechoose.clear()
            return "other devices were chosen"
        if self._gone.is_set():
            return "the sound device has gone"
        assert self._pair is not None
        calls, renders = self.callbacks - self._counted[0], self.renders - self._counted[1]
        counts = (calls, renders) if self._pair.split else (calls,)
        arrived = (self.ring.last_write_s, self.ring.written)
        why = self._watch.tick(time.monotonic(), time.time(), counts, arrived)
        if why is None and self._ticks % SETTINGS_EVERY_TICKS == 0 and self._settings_changed():
            return "the system's sound devices have changed"
        return why

    def _settings_changed(self) -> bool:
        """A default that is followed has moved, or a device that was missed may be back."""
        old, new = self._fingerprint, coreaudio.fingerprint()
        if old is None or new is None or old == new:
            return False
        self._fingerprint = new
        wanted_input, wanted_output = self._wanted
        moved = (wanted_input is None and old.default_input != new.default_input) or (
            wanted_output is None and old.default_output != new.default_output
        )
        assert self._pair is not None
        return moved or (old.devices != new.devices and bool(self._pair.notes))

    def _reopen(self, why: str) -> None:
        """Until it works or the talk ends; the session just hears nothing meanwhile."""
        if not self._close() and not portaudio.start_afresh():
            self._failure = HANGS
            self.end_input()
            self._stopping.set()
            return
        self.on_notice(Notice("device-lost", f"{why}: opening sound again"))
        tries = 0
        while not self._stopping.is_set():
            try:
                self._devices = portaudio.scan(again=True)
                self._open(strict=False)
            except AudioError as error:
                if tries == len(RETRY_S):
                    self.on_notice(Notice("device-missing", f"{error}; the talk waits for it"))
                self._stopping.wait(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
                continue
            self.drop_stale()
            self._reopened, self._told_silent = self._reopened + 1, False
            assert self._pair is not None
            names = f"{self._pair.input.name} and {self._pair.output.name}"
            self.on_notice(Notice("device-back", f"sound is back: {names}"))
            return

    def _watch_for_silence(self) -> None:
        silent = self.zero_samples >= ZEROS_S * SAMPLE_RATE_HZ
        if silent and not self._told_silent and self._pair is not None:
            self._told_silent = True  # once for each time the devices are opened
            advice = MAC_ADVICE if sys.platform == "darwin" else LINUX_ADVICE
            line = f"the microphone ({self._pair.input.name}) gives nothing but silence: {advice}"
            self.on_notice(Notice("microphone-silent", line))
