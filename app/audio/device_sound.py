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
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from moshi_mlx.errors import AudioError

from ..events import Notice
from .attempts import Attempts, Sides
from .devices.choice import Pair, Wish, choose
from .devices.coreaudio import Fingerprint
from .devices.device import Device
from .devices.lid import lid_closed
from .devices.watch import SLEPT
from .microphone_watch import MicrophoneWatch
from .pair_watch import PairWatch
from .permission import PermissionAsk
from .process.process import COMMAND, CRASHED, SoundProcess, ready_devices
from .process.rings import Rings
from .process.spares import Spares
from .settings_change import concerns
from .sound import SoundState
from .stream.port import Capture
from .stream.portaudio import StreamPlan

TICK_S = 0.025
WATCH_EVERY_TICKS = 4
LATE_TICK_S = 0.1  # a watch that comes that late can't judge
FROZEN_S = 0.4  # without a sign of life
STUCK_S = 1.0  # the same of one that was only just asked for something
START_WAIT_S = 1.0  # what `start` gives the devices before the talk goes on without them
OPEN_NOTICE_S = 1.0  # devices that take longer to open are told
OPEN_LIMIT_S = 60.0  # a dialog of the system may be open
READY_S = 10.0
RETRY_S = (0.1, 0.2, 0.4, 0.8)  # then every 0.8 s
FROZEN = "the sound system is frozen"
CHANGED = "the system's sound devices have changed"
CHOSEN = "other devices were chosen"
GONE = "the sound device has gone"


class DeviceSound:
    """See sound.Sound."""

    def __init__(
        self,
        input_name: str | None = None,
        output_name: str | None = None,
        channel: int = 1,
        command: Sequence[str] = COMMAND,
        permission: PermissionAsk | None = None,
        speaks: bool = True,
    ) -> None:
        """Raises AudioError when there is no device, or none of that name.

        `speaks` False: only the microphone is opened, and what is played goes nowhere; `channel`:
        of the input; `command`: what the sound process runs; `permission`: the system's
        question, by default put where there is one.
        """
        self._tell: Callable[[Notice], None] = lambda notice: None
        self._processes = Spares(command)
        wish = Wish(input_name, output_name, channel, speaks)
        try:
            self._devices = ready_devices(self._processes.serving)
            self._lid_closed = lid_closed()
            pair = choose(self._devices, wish, lid_closed=self._lid_closed)
        except BaseException:
            self._processes.close()
            raise
        self._wish = replace(  # numbers change with the next scan
            wish,
            input=None if input_name is None else pair.input.name,
            output=None if output_name is None else pair.output.name,
        )
        self._rings = Rings(self._processes.serving)
        self._permission = permission or (PermissionAsk() if sys.platform == "darwin" else None)
        self._microphone = MicrophoneWatch(self._permission, lid_closed)
        self._pair: Pair | None = None
        self._attempts = Attempts()
        self._gone: Sides | None = None  # whose streams have ended by themselves
        self._changed_s = 0.0  # the system's settings
        self._fingerprint: Fingerprint | None = None
        self._open_now = self._settled = self._closed = False
        self._stopping, self._rechoose = threading.Event(), threading.Event()
        self._first = threading.Event()  # the devices are open, or can't be
        self._first_error: AudioError | None = None
        self._thread = threading.Thread(target=self._run, name="moshi-devices", daemon=True)
        self._reopened = self._ticks = 0
        self._failure: str | None = None

    # -- what the talk calls

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        self._tell = listener

    def start(self) -> None:
        """Open the devices, or go on without them when they take long.

        Raises AudioError when they can't be opened.
        """
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
        if self._permission is not None:
            self._permission.close()

    def now(self) -> float:
        return self._rings.now()

    def read(self, timeout_s: float) -> Capture | None:
        return self._rings.read(timeout_s)

    def play(self, pcm: np.ndarray) -> float:
        return self._rings.play(pcm)

    def buffered_s(self) -> float:
        return self._rings.buffered_s()

    def flush(self) -> None:
        self._rings.flush()

    def state(self) -> SoundState:
        pair, lost = self._pair, not self._open_now
        names = ("", "") if pair is None else (pair.input.name, pair.output.name)
        headset = pair is not None and pair.headset
        chosen = (self._wish.input, self._wish.output)
        asked = self._rings.held
        return SoundState(*names, lost, headset, self._reopened, *self._rings.xruns, chosen, asked)

    @property
    def process_id(self) -> int:
        """Of the process that serves; 0: there is none just now."""
        return self._rings.process.pid

    @property
    def heard_s(self) -> float:
        """When the microphone's newest sample arrived."""
        return self._rings.heard_s

    def devices(self) -> list[Device]:
        return list(self._devices)

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        """Names, parts of them or indexes; None follows the system. Done within a second."""
        self._wish = replace(self._wish, input=input_name, output=output_name)
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
        self._failure = why
        self._rings.end_input()

    def _open_first(self) -> bool:
        try:
            self._open(self._rings.process, True, None)
        except AudioError as error:
            if not self._stopping.is_set():
                self._first_error = error
                self._fail(str(error))
            return False
        self._first.set()
        return True

    def _why_reopen(self, late: bool) -> str | None:
        process = self._rings.process
        if any([self._note(said, answer) for said, answer in process.messages()]):
            return CHANGED
        if process.ended is not None:
            self._watch.crashed(time.monotonic())
            return process.ended
        if self._rechoose.is_set():
            self._rechoose.clear()
            self._attempts.forget_the_dead()
            return CHOSEN
        if self._gone is not None:
            self._watch.gone(self._gone, time.monotonic())
            return GONE
        if process.is_stopped() or (not late and process.silent_s() > FROZEN_S):
            return FROZEN
        self._ticks += 1
        return self._watch_device(process) if self._ticks % WATCH_EVERY_TICKS == 0 else None

    def _note(self, said: str, answer: dict[str, Any]) -> bool:
        """What the process tells unasked; True: the devices it has open are no longer right."""
        if said == "gone":
            before = self._gone or (False, False)
            self._gone = (before[0] or answer["input"], before[1] or answer["output"])
        return said == "settings" and self._settings_changed(answer)

    def _watch_device(self, process: SoundProcess) -> str | None:
        why = self._watch.tick(time.monotonic(), time.time(), process.memory, self._tell)
        if self._watch.called and not self._settled:
            self._settled = True
            self._tell_back()
            self._processes.refill()
        self._rings.held = self._microphone.waits
        return why

    def _tell_back(self) -> None:
        """At the first callback: a stream that is open may never call."""
        if self._reopened and self._pair is not None:
            both = f"{self._pair.input.name} and {self._pair.output.name}"
            names = both if self._pair.speaks else self._pair.input.name
            self._tell(Notice("device-back", f"sound is back: {names}"))

    def _settings_changed(self, answer: dict[str, Any]) -> bool:
        new = Fingerprint(
            answer["default_input"],
            answer["default_output"],
            tuple(answer["devices"]),
            tuple(answer["rates_hz"]),
        )
        old, self._fingerprint = self._fingerprint, new
        if old is None or old == new or self._pair is None:
            return False
        self._changed_s = time.monotonic()
        return concerns(old, new, self._wish, self._pair)

    # -- opening

    def _reopen(self, why: str) -> None:
        """Until it works or the talk ends; the session just hears nothing meanwhile."""
        self._open_now = False
        self._tell(Notice("device-lost", f"{why}: opening sound again"))
        crashed = why.startswith((CRASHED, FROZEN))
        since_s = self._rings.heard_s
        process = self._replace()
        if not crashed:
            self._lid_closed = lid_closed()
        scan_again = not crashed or process.asked_s < self._changed_s
        tries = 0
        while not self._stopping.is_set():
            try:
                if process.ended is not None:
                    process = self._replace()
                self._ready(process, scan_again or tries > 0)
                bridge_from_s = None if why == SLEPT else since_s
                self._rings.move(process, bridge_from_s)
                self._open(process, False, bridge_from_s)
            except AudioError as error:
                if tries == len(RETRY_S):
                    self._tell(Notice("device-missing", f"{error}; the talk waits for it"))
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

    def _open(self, process: SoundProcess, strict: bool, since_s: float | None) -> None:
        """`since_s`: when the talk last heard something, if that was just now."""
        devices = self._attempts.living(process.devices)
        strict = strict and not self._attempts.any_dead
        pair = choose(devices, self._wish, strict, self._lid_closed)
        refusals = []
        for number, plan in self._attempts.ways(pair, self._wish.channel):
            error = self._open_so(process, pair, number, plan, since_s)
            if error is None:
                break
            refusals.append(error)
        else:
            self._attempts.refused(pair)
            raise AudioError(
                f"{pair.names} can't be opened ({refusals[0]}); see `moshi devices` for others"
            )
        self._attempts.opened(pair, number)
        self._devices, self._settled = process.devices, False
        others = self._wish.input is None and sum(d.inputs > 0 for d in devices) > 1
        self._watch = PairWatch(
            pair,
            plan,
            devices,
            others,
            self._attempts,
            self._microphone,
            time.monotonic(),
            time.time(),
        )
        if pair.notes and (self._pair is None or pair.notes != self._pair.notes):
            for note in pair.notes:
                self._tell(Notice("device-choice", note))
        self._pair, self._open_now = pair, True

    def _open_so(
        self,
        process: SoundProcess,
        pair: Pair,
        number: int,
        plan: StreamPlan,
        since_s: float | None,
    ) -> str | None:
        """Open the pair in one way; why it was refused, or None. Raises AudioError."""
        self._gone = None
        asked = {"plan": asdict(plan), "heard": process.ring.written, "since_s": since_s}
        try:
            answer = self._answer(process, "open", OPEN_LIMIT_S, ask=asked, slow=pair.names)
        except AudioError:
            if (process.ended or "").startswith(CRASHED):
                self._attempts.crashed(pair, number)
            raise
        return answer.get("error")

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
            stuck = ask is not None and not late and process.silent_s() > STUCK_S
            if process.ended is not None or process.is_stopped() or stuck:
                why = process.ended or FROZEN
                break
            self._microphone.question(now_s, self._tell)
            self._rings.held = self._microphone.waits
            if slow is not None and now_s - start_s > OPEN_NOTICE_S:
                line = f"{slow}: opening takes long; does the system ask for something?"
                self._tell(Notice("device-slow", line))
                slow = None
        process.kill()
        raise AudioError(why)
