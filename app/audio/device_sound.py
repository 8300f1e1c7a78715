"""Microphone and loudspeaker that may change, vanish and return while the talk goes on.

A Sound on real devices. PortAudio runs in a process of its own, which one thread here watches forty
times a second: when it crashes or freezes, or when its device stopped, fell silent, runs at another
rate, was changed in the system's settings, or the computer has slept, it is killed and a spare one
opens whatever there is. What was heard and not yet read, and what wasn't played yet, goes along.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from ..events import Notice
from . import memory as m
from .callbacks import LONGEST_FILL_S
from .coreaudio import Fingerprint
from .device import Device
from .device_choice import Pair, choose
from .device_watch import SLEPT, DeviceWatch
from .keep_awake import KeepAwake
from .memory import write_ring
from .port import Capture, EndOfInput, finite
from .portaudio import Plan
from .sound import SoundState
from .sound_process import COMMAND, CRASHED, SoundProcess, ready_devices
from .spares import Spares

TICK_S = 0.025
WATCH_EVERY_TICKS = 4
LATE_TICK_S = 0.1  # a watch that comes that late can't judge
FROZEN_S = 0.4  # without a sign of life
STUCK_S = 1.0  # the same of one that was only just asked for something
START_WAIT_S = 1.0  # what `start` gives the devices before the talk goes on without them
OPEN_NOTICE_S = 1.0  # devices that take longer to open are told
OPEN_LIMIT_S = 60.0  # a dialog of the system may be open
READY_S = 10.0
SLICE_S = 0.05  # how soon a reader sees a new process, or the end
RETRY_S = (0.1, 0.2, 0.4, 0.8)  # then every 0.8 s
FROZEN = "the sound system is frozen"
ZEROS_S = 2.0  # of exact zeros: no microphone is that quiet
MAC_ADVICE = (
    "allow this terminal in System Settings > Privacy & Security > Microphone, then start it again"
)
LINUX_ADVICE = "is it muted, or is another input the right one? See `moshi devices` and --input"


class DeviceSound:
    """See sound.Sound. `read` is for one thread, `play` for another; the rest for any."""

    def __init__(
        self,
        input_name: str | None = None,
        output_name: str | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Raises AudioError when there is no device, or none of that name.

        `command`: what the sound process runs.
        """
        self.on_notice: Callable[[Notice], None] = lambda notice: None
        self._processes = Spares(command)
        try:
            self._devices = ready_devices(self._processes.serving)
            pair = choose(self._devices, input_name, output_name)
        except BaseException:
            self._processes.close()
            raise
        self._wanted = (input_name, output_name)
        if input_name is not None or output_name is not None:  # numbers change with the next scan
            self._wanted = (
                None if input_name is None else pair.input.name,
                None if output_name is None else pair.output.name,
            )
        self._process = self._processes.serving  # whose rings the talk uses
        self._swap = threading.Lock()  # held while these rings change, and for one read or write
        self._pair: Pair | None = None
        self._changed_s = 0.0  # the system's settings
        self._fingerprint: Fingerprint | None = None
        self._open_now, self._gone, self._settled = False, False, False
        self._ended = False
        self._stopping, self._rechoose = threading.Event(), threading.Event()
        self._first = threading.Event()  # the devices are open, or can't be
        self._first_error: AudioError | None = None
        self._thread = threading.Thread(target=self._run, name="moshi-devices", daemon=True)
        self._awake = KeepAwake()
        self._reopened, self._ticks, self._told_silent, self._xruns = 0, 0, False, 0
        self._failure: str | None = None
        self._closed = False

    # -- what the talk calls

    def start(self) -> None:
        """Open the devices, or go on without them when they take long.

        Raises AudioError when they can't be opened.
        """
        self._awake.start()
        self._thread.start()
        self._first.wait(START_WAIT_S)
        if self._first_error is not None:
            raise self._first_error

    def stop(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stopping.set()
        self._processes.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._processes.close()
        self._awake.stop()

    def now(self) -> float:
        return time.monotonic()

    def read(self, timeout_s: float) -> Capture | None:
        deadline = time.monotonic() + timeout_s
        while True:
            process = self._process
            with self._swap:
                capture = self._process.ring.take()
            if capture is not None:
                return finite(capture)
            if self._ended:
                raise EndOfInput
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if not process.listen(min(left_s, SLICE_S)) and process.ended is not None:
                time.sleep(0.002)  # its successor is on its way

    def play(self, pcm: np.ndarray) -> float:
        with self._swap:
            return self._process.playout.push(pcm, self.now())

    def buffered_s(self) -> float:
        return self._process.playout.level() / SAMPLE_RATE_HZ

    def flush(self) -> None:
        with self._swap:
            self._process.ring.flush()
            self._process.playout.flush()

    def state(self) -> SoundState:
        pair, lost = self._pair, not self._open_now
        names = ("", "") if pair is None else (pair.input.name, pair.output.name)
        headphones = pair is not None and pair.headphones
        return SoundState(*names, lost, headphones, self._reopened, self.xruns, self._wanted)

    @property
    def process_id(self) -> int:
        """Of the process that serves; 0: there is none just now."""
        return self._process.pid

    @property
    def heard_s(self) -> float:
        """When the microphone's newest sample arrived."""
        return self._process.memory.get_s(m.HEARD_S)

    @property
    def xruns(self) -> int:
        """Callbacks with a flag set: input lost, or output late."""
        get = self._process.memory.get
        return self._xruns + get(m.INPUT_FLAGS) + get(m.OUTPUT_FLAGS)

    def devices(self) -> list[Device]:
        return list(self._devices)

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        """Names, parts of them or indexes; None follows the system. Done within a second."""
        self._wanted = (input_name, output_name)
        self._rechoose.set()
        self._processes.wake()

    def problem(self) -> str | None:
        return self._failure

    # -- the thread that watches

    def _run(self) -> None:
        try:
            if self._open_first():
                while not self._stopping.is_set():
                    before_s = time.monotonic()
                    self._processes.wait(TICK_S)
                    late = time.monotonic() - before_s > TICK_S + LATE_TICK_S
                    why = self._why_reopen(late)
                    if why is not None:
                        self._reopen(why)
        except AudioError as error:
            self._fail(str(error))
        except Exception as error:  # thread boundary: without it the talk would be deaf for good
            self._fail(f"the sound devices can't be watched: {type(error).__name__}: {error}")
        finally:
            self._first.set()

    def _fail(self, why: str) -> None:
        self._failure, self._ended = why, True

    def _open_first(self) -> bool:
        try:
            self._open(self._process, True, None)
        except AudioError as error:
            if not self._stopping.is_set():
                self._first_error = error
                self._fail(str(error))
            return False
        self._first.set()
        return True

    def _why_reopen(self, late: bool) -> str | None:
        process = self._process
        if any([self._note(said, answer) for said, answer in process.messages()]):
            return "the system's sound devices have changed"
        if process.ended is not None:
            return process.ended
        if self._rechoose.is_set():
            self._rechoose.clear()
            return "other devices were chosen"
        if self._gone:
            return "the sound device has gone"
        if process.is_stopped() or (not late and process.silent_s() > FROZEN_S):
            return FROZEN
        self._ticks += 1
        return self._watch_device(process) if self._ticks % WATCH_EVERY_TICKS == 0 else None

    def _note(self, said: str, answer: dict[str, Any]) -> bool:
        """What the process tells unasked; True: the devices it has open are no longer right."""
        self._gone = self._gone or said == "gone"
        return said == "settings" and self._settings_changed(answer)

    def _watch_device(self, process: SoundProcess) -> str | None:
        assert self._pair is not None
        get = process.memory.get
        calls, renders = get(m.CALLBACKS), get(m.RENDERS)
        counts = (calls, renders) if self._pair.split else (calls,)
        arrived = (process.memory.get_s(m.HEARD_S), get(m.HEARD))
        if not self._settled and all(counts):
            self._settled = True
            self._tell_back()
            self._processes.refill()
        self._watch_for_silence(get(m.ZEROS))
        return self._watch.tick(time.monotonic(), time.time(), counts, arrived)

    def _tell_back(self) -> None:
        """At the first callback: a stream that is open may never call."""
        if self._reopened and self._pair is not None:
            names = f"{self._pair.input.name} and {self._pair.output.name}"
            self.on_notice(Notice("device-back", f"sound is back: {names}"))

    def _settings_changed(self, answer: dict) -> bool:
        """A default that is followed has moved, or a device that was missed may be back."""
        devices = tuple(answer["devices"])
        new = Fingerprint(answer["default_input"], answer["default_output"], devices)
        old, self._fingerprint = self._fingerprint, new
        if old is None or old == new:
            return False
        self._changed_s = time.monotonic()
        wanted_input, wanted_output = self._wanted
        moved = (wanted_input is None and old.default_input != new.default_input) or (
            wanted_output is None and old.default_output != new.default_output
        )
        assert self._pair is not None
        return moved or (old.devices != new.devices and bool(self._pair.notes))

    def _reopen(self, why: str) -> None:
        """Until it works or the talk ends; the session just hears nothing meanwhile."""
        self._open_now = False
        self.on_notice(Notice("device-lost", f"{why}: opening sound again"))
        process = self._replace()
        scan_again = why not in (CRASHED, FROZEN) or process.asked_s < self._changed_s
        since_s = None if why == SLEPT else self._process.memory.get_s(m.HEARD_S)
        tries = 0
        while not self._stopping.is_set():
            try:
                if process.ended is not None:
                    process = self._replace()
                self._ready(process, scan_again or tries > 0)
                self._hand_over(process, since_s)
                self._open(process, False, since_s)
            except AudioError as error:
                if tries == len(RETRY_S):
                    self.on_notice(Notice("device-missing", f"{error}; the talk waits for it"))
                self._stopping.wait(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
                continue
            self._reopened += 1
            return

    def _replace(self) -> SoundProcess:
        """Raises AudioError where no process can be made: the talk is over then."""
        self._fingerprint = None  # numbers of devices are a process's own
        return self._processes.replace()

    def _ready(self, process: SoundProcess, scan_again: bool) -> None:
        if not process.ready:
            self._answer(process, "ready", READY_S)
        if scan_again:
            self._answer(process, "scan", READY_S, ask={})
        if process.trouble is not None:
            raise AudioError(process.trouble)

    def _hand_over(self, process: SoundProcess, since_s: float | None) -> None:
        """The talk uses another process's rings from now on, with what lies in the old ones."""
        old = self._process
        if process is old:
            return
        bridged = since_s is not None and self.now() - since_s < LONGEST_FILL_S
        with self._swap:
            if bridged:
                mic, played = old.ring.rest()
                write_ring(process.memory.mic, 0, mic)
                write_ring(process.memory.played, 0, played)
                process.ring.arrived(len(mic), since_s or 0.0)
            process.playout.push(old.playout.waiting(), self.now())
            self._xruns = self.xruns
            self._process = process

    def _open(self, process: SoundProcess, strict: bool, since_s: float | None) -> None:
        """`since_s`: when the talk last heard something, if that was just now."""
        pair = choose(process.devices, *self._wanted, strict=strict)
        plan = asdict(Plan(pair.input.index, pair.output.index, pair.split))
        names = pair.input.name + (f" with {pair.output.name}" if pair.input != pair.output else "")
        self._gone = False
        asked = {"plan": plan, "heard": process.ring.written, "since_s": since_s}
        answer = self._answer(process, "open", OPEN_LIMIT_S, ask=asked, slow=names)
        if "error" in answer:
            why = f"{names} can't be opened ({answer['error']}); see `moshi devices` for others"
            raise AudioError(why)
        self._devices, self._settled = process.devices, False
        self._watch = DeviceWatch(time.monotonic(), time.time())
        if pair.notes and (self._pair is None or pair.notes != self._pair.notes):
            for note in pair.notes:
                self.on_notice(Notice("device-choice", note))
        self._pair, self._open_now, self._told_silent = pair, True, False

    def _answer(
        self,
        process: SoundProcess,
        what: str,
        limit_s: float,
        ask: dict[str, Any] | None = None,
        slow: str | None = None,
    ) -> dict[str, Any]:
        """Ask, if anything is to be asked, and wait. Raises AudioError, the process killed then.

        `slow`: what to call that which takes long.
        """
        if ask is not None:
            process.ask(what, **ask)
        start_s = tick_s = time.monotonic()
        why = f"the sound system hasn't answered for {limit_s:.0f} s"
        while (now_s := time.monotonic()) - start_s < limit_s:
            self._processes.wait(TICK_S)
            for said, answer in process.messages():
                if said == what:
                    return answer
                self._note(said, answer)
            late, tick_s = now_s - tick_s > TICK_S + LATE_TICK_S, now_s
            if self._stopping.is_set():
                why = "the talk is over"
                break
            if process.ended is not None or (
                ask is not None and not late and process.silent_s() > STUCK_S
            ):
                why = process.ended or FROZEN
                break
            if slow is not None and now_s - start_s > OPEN_NOTICE_S:
                line = f"{slow}: opening takes long; does the system ask for something?"
                self.on_notice(Notice("device-slow", line))
                slow = None
        process.kill()
        raise AudioError(why)

    def _watch_for_silence(self, zeros: int) -> None:
        if zeros >= ZEROS_S * SAMPLE_RATE_HZ and not self._told_silent and self._pair is not None:
            self._told_silent = True  # once for each time the devices are opened
            advice = MAC_ADVICE if sys.platform == "darwin" else LINUX_ADVICE
            line = f"the microphone ({self._pair.input.name}) gives nothing but silence: {advice}"
            self.on_notice(Notice("microphone-silent", line))
