"""How long PortAudio's call takes to its end: the wait for Python's lock, then the callback itself.

    python -m benchmarks.callback [--seconds 20] [--rounds 3]

Real PortAudio on a PulseAudio null sink, the chat's own devices and session. `own` is the callback
itself, `cpu` the CPU time of its thread meanwhile, `wait` what passes between PortAudio's call and
the first line of Python, `both` the sum of wait and own: percentiles 50, 99 and 99.9 in ms. Where
the system permits it the callback's thread runs in real time (SCHED_FIFO), as every audio thread
does on macOS. `control` is the same fixed work each time, in the same thread right after the
callback: what its tail adds to its median is the machine's doing (a neighbour, a hypervisor), not
ours, and `worst` has the five worst callbacks beside theirs: [wait, own, cpu, control].

`alarm` is none of ours: a real-time thread, alone in a process, that sets itself an alarm every
20 ms, and how `late` it wakes. What it finds, any callback on this machine may meet.

Loads, all in the process of the talk but `processes`: `idle`, a fake model; `processes`, a busy
loop on every core; `thread`, a thread that never lets go of Python's lock by itself; `lock`, C code
that holds it for 50 ms at a time; `nano`, the embedded model. Lines of JSON.
"""

import argparse
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.audio.device_sound import DeviceSound
from app.audio.process import child as sound_child
from app.audio.process.gil_handover import spare_the_collector
from app.events import Settings
from app.talk.session import TalkSession

LOADS = ("alarm", "idle", "processes", "thread", "lock", "nano")
PERCENTS = (50, 99, 99.9)
SETTLE_S = 2.0
MOST_CALLBACKS = 1 << 16
COLUMNS = 5  # wait, own, cpu, control in s; 1 or, in real time, 2
CONTROL_LOOPS = 4000  # about as long as a callback
ALARM_S = 0.02  # as often as callbacks come
WORST = 5


class Probe:
    """In the sound process, between PortAudio and the callback: what it took, into a file.

    The process is killed in the end, so that they are written as they come.
    """

    def __init__(self, path: Path) -> None:
        self.rows = np.memmap(path, np.float64, "r+", shape=(MOST_CALLBACKS, COLUMNS))
        self.count, self.real_time = 0, None

    def around(self, callback: Any) -> Any:
        def probed(mic: Any, out: Any, frames: int, when: Any, flags: Any) -> None:
            wall_s, start_s, start_cpu_s = time.time(), time.monotonic(), time.thread_time()
            if self.real_time is None:
                self.real_time = into_real_time()
            callback(mic, out, frames, when, flags)
            end_s, cpu_s = time.monotonic(), time.thread_time() - start_cpu_s
            clocks = (wall_s, start_s)  # PortAudio's clock is one of them, by system and library
            wait_s = min((clock - when.currentTime for clock in clocks), key=abs)
            again_s = time.monotonic()
            sum(range(CONTROL_LOOPS))
            control_s = time.monotonic() - again_s
            took_s = (wait_s, end_s - start_s, cpu_s, control_s)
            self.rows[self.count] = (*took_s, 1.0 + self.real_time)
            self.count += 1

        return probed

    def install(self) -> None:
        import sounddevice

        real = sounddevice.RawStream
        sounddevice.RawStream = lambda *args, callback, **options: real(
            *args, callback=self.around(callback), **options
        )


def into_real_time() -> bool:
    """This thread, where the system lets us."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        return True
    return False


def make_engine(load: str) -> Any:
    if load == "nano":
        import moshi_mlx
        from app.talk.moshi_engine import MoshiEngine

        return MoshiEngine(moshi_mlx.load("nano"), "nano", "bf16")
    from tests.support.fakes.fake_engine import FakeEngine

    return FakeEngine(lambda: 0.04)


def alarm(seconds: float) -> dict[str, Any]:
    """How late this thread wakes, percentiles in ms, and the worst."""
    real_time, due_s, late = into_real_time(), time.monotonic(), []
    for _ in range(round(seconds / ALARM_S)):
        due_s += ALARM_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        late.append(1000 * (time.monotonic() - due_s))
    worst = np.sort(late)[: -WORST - 1 : -1].round(2).tolist()
    return {"late": percentiles(late), "real_time": real_time, "worst": worst}


def percentiles(values: Any) -> list[float]:
    return [round(float(np.percentile(values, percent)), 3) for percent in PERCENTS]


def child(load: str, seconds: float) -> dict[str, Any]:
    """One talk in this process; percentiles in ms, callbacks and flags."""
    if load == "alarm":
        return alarm(seconds)
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(MOST_CALLBACKS * COLUMNS * 8)
        rows = np.memmap(file.name, np.float64, "r", shape=(MOST_CALLBACKS, COLUMNS))
        sound = DeviceSound(command=(__file__, "--sound", file.name))
        return talk(sound, load, seconds, rows)


def talk(sound: DeviceSound, load: str, seconds: float, rows: np.ndarray) -> dict[str, Any]:
    session = TalkSession(lambda: make_engine(load))
    session.start()
    while session.status.state == "loading":
        time.sleep(0.05)
    spare_the_collector()
    busy = {"thread": hold_the_lock, "lock": hold_the_lock_in_c}.get(load)
    if busy is not None:
        threading.Thread(target=busy, daemon=True).start()
    sound.start()
    session.begin(sound, Settings())
    time.sleep(SETTLE_S)
    first = np.count_nonzero(rows[:, -1])
    time.sleep(seconds)
    found = rows[first : np.count_nonzero(rows[:, -1])].copy()
    xruns, reopened = sound.state().xruns, sound.state().reopened
    session.stop()
    sound.stop()
    wait, own, cpu, control = 1000 * found[:, :-1].T
    times = {"wait": wait, "own": own, "cpu": cpu, "both": wait + own, "control": control}
    worst = 1000 * found[np.argsort(wait + own)[: -WORST - 1 : -1], :-1]
    shown = {name: percentiles(values) for name, values in times.items()}
    about = {
        "callbacks": len(found),
        "flags": xruns,
        "real_time": bool(np.all(found[:, -1] == 2.0)),
    }
    return shown | about | {"reopened": reopened, "worst": worst.round(2).tolist()}


def hold_the_lock() -> None:
    while True:
        sum(range(100))


def hold_the_lock_in_c() -> None:
    library = ctypes.PyDLL(None)  # keeps Python's lock in its calls
    while True:
        library.usleep(50_000)


def run(env: dict[str, str], load: str, seconds: float) -> dict[str, Any]:
    """A child under its load; with one core busier than there are for `processes`."""
    busy = os.cpu_count() or 1 if load == "processes" else 0
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    command = [sys.executable, __file__, "--child", load, "--seconds", str(seconds)]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    return {"load": load} | json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--child", choices=LOADS, help=argparse.SUPPRESS)
    parser.add_argument("--sound", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sound:
        Probe(args.sound).install()
        sound_child.main()
    if args.child:
        print(json.dumps(child(args.child, args.seconds)), flush=True)
        os._exit(0)  # a thread that holds the lock would keep us
    from tests.support.processes.pulse import Pulse

    pulse = Pulse()
    try:
        for _ in range(args.rounds):
            for load in args.loads:
                print(json.dumps(run(pulse.env, load, args.seconds)), flush=True)
    finally:
        pulse.close()


if __name__ == "__main__":
    main()
