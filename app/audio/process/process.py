"""One sound process as the talk sees it: its memory, its bell and its line.

It is only ever ended by SIGKILL, which no hang or deadlock of a sound system withstands, and a
memory is never used again after that: what a late write of it could spoil, nobody reads.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moshi_mlx.errors import AudioError

from ..devices.device import Device
from ..stream import memory as m
from ..stream.memory import mapped, nameless_memory, out_of_the_way
from ..stream.playout import Playout
from ..stream.port import InputRing
from .child import BELL, LINE, MEMORY, STROKE

SCAN_S = 10.0  # until a sound system that doesn't answer is given up
CRASHED = "the sound system crashed"
COMMAND = ("-m", f"{__package__}.child")


class SoundProcess:
    """Spawned at once; `devices` once it is ready."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """`command`: what Python runs. Raises AudioError where no process can be made."""
        try:
            self._spawn(command)
        except OSError as error:
            raise AudioError(f"the sound process can't be started ({error.strerror})") from None
        self.playout = Playout(self.memory)
        self.playout.prepare()
        self.ring = InputRing(memory=self.memory)
        self._lines = b""
        self._listening = threading.Lock()
        self.ended: str | None = None  # why, once it has
        self.asked_s = time.monotonic()  # when it last had a reason to stir
        self.ready = False
        self.trouble: str | None = None  # why there is no sound, once it is ready
        self.devices: list[Device] = []

    def _spawn(self, command: Sequence[str]) -> None:
        memory = nameless_memory()
        bell, bell_end = map(out_of_the_way, os.pipe())
        line, line_end = socket.socketpair()
        theirs = out_of_the_way(line_end.detach())
        try:
            given = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_RDWR, 0) for n in range(3)]
            given += [
                (os.POSIX_SPAWN_DUP2, memory, MEMORY),
                (os.POSIX_SPAWN_DUP2, bell_end, BELL),
                (os.POSIX_SPAWN_DUP2, theirs, LINE),
            ]
            # no fork: on macOS that would copy the page tables of all the weights
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", *command],
                environment(),
                file_actions=given,
                setpgroup=0,  # Ctrl-C is for the parent
            )
            self.memory = mapped(memory)
        except BaseException:
            os.close(bell)
            line.close()
            raise
        finally:
            for descriptor in (memory, bell_end, theirs):
                os.close(descriptor)
        line.setblocking(False)
        self._line, self._bell = line, bell
        os.set_blocking(bell, False)

    def fileno(self) -> int:
        """For select: the line."""
        return self._line.fileno()

    def ask(self, what: str, **asked: Any) -> None:
        """One thing; the answer comes by `messages`."""
        self.asked_s = time.monotonic()
        with contextlib.suppress(OSError):  # it has ended, as `messages` will tell
            self._line.sendall(json.dumps({what: asked}).encode() + b"\n")

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """What it has said since the last time; sets `ended` at its end. Never waits."""
        while self.ended is None:
            try:
                data = self._line.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.ended = CRASHED
            self._lines += data
        *whole, self._lines = self._lines.split(b"\n")
        found = [next(iter(json.loads(line).items())) for line in whole]
        for said, answer in found:
            if said in ("ready", "scan"):
                self.ready, self.trouble = True, answer.get("error")
                self.devices = [Device(**device) for device in answer.get("devices", ())]
            if said == "failed":
                self.ended = f"{CRASHED} ({answer['error']})"
        return found

    def answer(self, what: str, timeout_s: float) -> dict[str, Any] | None:
        """Wait for the answer to one question; None: not in time. For callers without a loop."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            select.select([self], [], [], left_s)
            for said, answer in self.messages():
                if said == what:
                    return answer
            if self.ended is not None:
                return {"error": self.ended}
        return None

    def listen(self, timeout_s: float) -> bool:
        """The reader of `ring`: wait for new samples. False: none came, or it has ended."""
        with self._listening:
            if self._bell < 0 or not select.select([self._bell], [], [], timeout_s)[0]:
                return False
            return self._strokes()

    def _strokes(self) -> bool:
        try:
            data = os.read(self._bell, 1 << 16)
        except BlockingIOError:
            return False
        whole = len(data) // STROKE.size * STROKE.size
        if whole:
            self.ring.arrived(*STROKE.unpack_from(data, whole - STROKE.size))
        return whole > 0

    def silent_s(self) -> float:
        """How long it has given no sign of life since it was asked to do something."""
        return time.monotonic() - max(self.asked_s, self.memory.get_s(m.BEAT_S))

    def is_stopped(self) -> bool:
        """By a signal, since the last time: it may go on, but not in step with its device."""
        if self.pid == 0:
            return False
        found, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        if not found or os.WIFSTOPPED(status):
            return bool(found)
        self.pid, self.ended = 0, self.ended or CRASHED  # and reaped
        return False

    def kill(self) -> None:
        """At once, whatever it is in, leaving nothing behind; what it gave can still be read."""
        if self._bell < 0:
            return
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        self.ended = self.ended or "ended"
        self._line.close()
        with self._listening:
            self._strokes()
            os.close(self._bell)
            self._bell = -1


def environment() -> dict[str, str]:
    """For Python to find this package, also in a checkout that isn't installed."""
    found = dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1"}
    if str(__package__).startswith("app."):
        root = str(Path(__file__).resolve().parents[3])
        found["PYTHONPATH"] = os.pathsep.join([root, found.get("PYTHONPATH", "")]).rstrip(":")
    return found


def scan_devices(command: Sequence[str] = COMMAND) -> list[Device]:
    """Every device, by a process that is gone afterwards. Raises AudioError."""
    process = SoundProcess(command)
    try:
        return ready_devices(process)
    finally:
        process.kill()


def ready_devices(process: SoundProcess) -> list[Device]:
    """Wait for a process to be ready. Raises AudioError."""
    answer = process.answer("ready", SCAN_S)
    if answer is None:
        raise AudioError(f"the sound system hasn't answered for {SCAN_S:.0f} s: restart it")
    if "error" in answer:
        raise AudioError(answer["error"])
    return process.devices
