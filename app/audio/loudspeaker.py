"""A loudspeaker alone: no microphone is opened, so that the system asks for no permission.

As in a talk PortAudio runs in a process of its own, and the playout keeps the buffer it needs.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from .attempts import output_plans
from .devices.choice import Wish, choose_output
from .process.process import COMMAND, SoundProcess, ready_devices
from .stream import memory as m
from .stream.portaudio import StreamPlan

OPEN_LIMIT_S = 10.0
CALLED_LIMIT_S = 2.0  # the first callback comes within, or never
LEFT_LIMIT_S = 1.0  # what is left gets so much longer than it lasts
AHEAD_S = 1.5  # what `say` keeps waiting, at most


class Loudspeaker:
    """`play` from one thread; `close` at the end."""

    def __init__(
        self,
        output: str | None = None,
        command: Sequence[str] = COMMAND,
        called_limit_s: float = CALLED_LIMIT_S,
    ) -> None:
        """The system's output, or that of a name. Raises AudioError where nothing can be played.

        `command`: what the sound process runs; `called_limit_s`: until its first callback.
        """
        self._command, self._called_limit_s = command, called_limit_s
        self._process = SoundProcess(command)
        try:
            device, self.notes = choose_output(ready_devices(self._process), Wish(output=output))
            self.name = device.name
            self._open(output_plans(device))
        except BaseException:
            self._process.kill()
            raise
        self._waiting = np.zeros(0, np.float32)

    def _open(self, plans: Sequence[StreamPlan]) -> None:
        refused = ""
        for plan in plans:
            self._process.ask("open", plan=asdict(plan), heard=0, since_s=None)
            answer = self._process.answer("open", OPEN_LIMIT_S)
            if answer is None:
                raise AudioError(f"{self.name} hasn't opened for {OPEN_LIMIT_S:.0f} s")
            if "error" not in answer and self._is_called():
                return
            refused = answer.get("error", "it opens but gives no sound")
            if "error" not in answer:  # what is open but silent only ends with its process
                self._process.kill()
                self._process = SoundProcess(self._command)
                ready_devices(self._process)
        raise AudioError(f"{self.name} can't be opened ({refused})")

    def _is_called(self) -> bool:
        until_s = time.monotonic() + self._called_limit_s
        while not self._process.memory.get(m.RENDERS):
            if time.monotonic() > until_s:
                return False
            time.sleep(0.01)
        return True

    def play(self, pcm: np.ndarray) -> None:
        """Samples [n], any n; never waits. A device that has gone is silence."""
        self._waiting = np.concatenate([self._waiting, pcm])
        while len(self._waiting) >= FRAME_SAMPLES:
            frame, self._waiting = self._waiting[:FRAME_SAMPLES], self._waiting[FRAME_SAMPLES:]
            self._process.playout.push(frame, time.monotonic())

    def say(self, pcm: np.ndarray) -> None:
        """Samples [n] that were made ahead of time; waits while AHEAD_S of them are still to play.

        Raises AudioError where the device has gone.
        """
        playout, level, moved_s = self._process.playout, -1, time.monotonic()
        while (left := playout.level()) > AHEAD_S * SAMPLE_RATE_HZ:
            if left != level:
                level, moved_s = left, time.monotonic()
            elif time.monotonic() - moved_s > self._called_limit_s:
                raise AudioError(f"{self.name} has stopped playing; is it still connected?")
            time.sleep(0.01)
        playout.append(pcm)

    def close(self) -> None:
        """Once what waits has been played."""
        playout = self._process.playout
        until_s = time.monotonic() + playout.level() / SAMPLE_RATE_HZ + LEFT_LIMIT_S
        while playout.level() and time.monotonic() < until_s:
            time.sleep(min(0.02, playout.level() / SAMPLE_RATE_HZ))
        self._process.kill()
