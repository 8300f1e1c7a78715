"""The sound process: PortAudio and the callbacks, apart from the model and its interpreter lock.

Started by `process.SoundProcess`, which gives it three descriptors: the shared memory; the
bell, a pipe that each callback writes the count of samples and the time into; and the line, a
socket of JSON lines:

    <- {"ready": {"devices": [...]}}            once; {"ready": {"error": "..."}}: no sound here
    -> {"scan": {}}                             <- {"scan": {"devices": [...]}} or {"error": ...}
    -> {"open": {plan, "heard", "since_s"}}     <- {"open": {}} or {"error": ...}
    <- {"gone": {"input": true, ...}}           a stream of that side has ended by itself
    <- {"failed": {"error": "..."}}             its last word
    <- {"settings": {...}}                      a Mac's devices or defaults, when they change

It ends when the line does, however its parent ended, and is killed whenever something is wrong.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from moshi_mlx.errors import AudioError

from ..devices import coreaudio
from ..devices.device import Device
from ..stream import memory as m
from ..stream.callbacks import Callbacks
from ..stream.memory import SoundMemory, mapped
from ..stream.portaudio import DeviceStream, Ended, StreamPlan, one_line, scan
from .gil_handover import short_handovers

MEMORY, BELL, LINE = 3, 4, 5  # descriptors
STROKE = struct.Struct("<qd")  # what the bell carries: samples ever heard, when
Scan = Callable[[bool], list[Device]]
OpenStream = Callable[[Callbacks, StreamPlan, Ended], object]
BEAT_EVERY_S = 0.025
SETTINGS_EVERY_S = 1.0


class SoundChild:
    """Does what the line says, one thing after the other."""

    def __init__(
        self,
        memory: SoundMemory,
        bell: int,
        line: socket.socket,
        scan: Scan = scan,
        open_stream: OpenStream = DeviceStream,
    ) -> None:
        """`scan` and `open_stream` are PortAudio's, or a test's."""
        os.set_blocking(bell, False)
        self._memory, self._bell, self._line = memory, bell, line
        self._scan, self._open_stream = scan, open_stream
        self._telling = threading.Lock()
        self.callbacks = Callbacks(memory, self._ring)
        self._stream: object = None
        self._beats = False

    def serve(self) -> None:
        """Until the line ends."""
        self._memory.touch()
        self._tell("ready", self._devices())
        for text in self._line.makefile("r", encoding="utf-8"):
            ((what, asked),) = json.loads(text).items()
            self._wake()
            if what == "scan":
                self._tell("scan", self._devices(again=True))
            elif what == "open":
                self._tell("open", self._open(**asked))

    def fail(self, why: str) -> None:
        self._tell("failed", {"error": why})

    def _wake(self) -> None:
        """A spare that waits stirs for nothing; one that was asked for something shows its life."""
        if not self._beats:
            self._beats = True
            threading.Thread(target=self._beat, name="moshi-beat", daemon=True).start()
            threading.Thread(target=self._settings, name="moshi-settings", daemon=True).start()

    def _devices(self, again: bool = False) -> dict[str, Any]:
        try:
            return {"devices": [asdict(device) for device in self._scan(again)]}
        except AudioError as error:
            return {"error": str(error)}

    def _open(self, plan: dict[str, Any], heard: int, since_s: float | None) -> dict[str, Any]:
        self.callbacks.resume(heard, since_s)
        try:
            self._stream = self._open_stream(self.callbacks, StreamPlan(**plan), self._ended)
        except AudioError as error:
            return {"error": str(error)}
        gc.collect()
        gc.freeze()
        return {}

    def _ended(self, of_input: bool, of_output: bool) -> None:
        self._tell("gone", {"input": of_input, "output": of_output})

    def _ring(self, heard: int, when_s: float) -> None:
        try:  # noqa: SIM105 (suppress costs the callback as much as all its counters)
            os.write(self._bell, STROKE.pack(heard, when_s))
        except BlockingIOError:  # nobody has listened for minutes
            pass

    def _tell(self, what: str, answer: dict[str, Any]) -> None:
        with self._telling, contextlib.suppress(OSError):
            self._line.sendall(json.dumps({what: answer}).encode() + b"\n")

    def _beat(self) -> None:
        while True:
            self._memory.put_s(m.BEAT_S, time.monotonic())
            time.sleep(BEAT_EVERY_S)

    def _settings(self) -> None:
        """A thread of its own, since the system may keep it waiting."""
        known = None
        while (found := coreaudio.fingerprint()) is not None:
            if found != known:
                self._tell("settings", asdict(found))
            known = found
            time.sleep(SETTINGS_EVERY_S)


def main(scan: Scan = scan, open_stream: OpenStream = DeviceStream) -> None:
    for keys in (signal.SIGINT, signal.SIGQUIT):  # the parent decides when it is over
        signal.signal(keys, signal.SIG_IGN)
    os.closerange(LINE + 1, 256)  # what the parent itself was given stays its own
    short_handovers()
    line = socket.socket(fileno=LINE)
    child = SoundChild(mapped(MEMORY), BELL, line, scan, open_stream)
    try:
        child.serve()
    except Exception as error:  # process boundary: nobody sees a traceback of it
        child.fail(f"{type(error).__name__}: {one_line(error)}")
    sys.stdout.flush()
    os._exit(0)  # PortAudio's own end may hang; the kernel closes everything


if __name__ == "__main__":
    main()
