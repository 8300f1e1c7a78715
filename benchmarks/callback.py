"""How long the audio callback takes, and how long it waits for Python's lock before it runs.

    python -m benchmarks.callback [--seconds 12] [--rounds 2]

Real PortAudio on a PulseAudio null sink, the chat's own devices and session. `own` is the callback
itself, `cpu` the CPU time of its thread meanwhile, `wait` what passes between PortAudio's call and
the first line of Python: all percentiles 50, 99 and 99.9 in ms. Where the system permits it the
callback's thread runs in real time (SCHED_FIFO), as every audio thread does on macOS.

Loads: `idle`, a fake model; `processes`, a busy loop on every core; `thread`, a thread of our own
process that never lets go of the lock by itself; `nano`, the embedded model. Lines of JSON; the
last one compares the wait with Python's default switch interval (5 ms) and with ours.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.audio.device_sound import DeviceSound
from app.audio.gil_handover import SWITCH_INTERVAL_S, spare_the_collector
from app.events import Settings
from app.talk.session import Session

LOADS = ("idle", "processes", "thread", "nano")
PERCENTS = (50, 99, 99.9)
SETTLE_S = 1.0


class Probe:
    """Stands between PortAudio and the chat's callback; keeps (wait, own, cpu) in seconds."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self.real_time: bool | None = None

    def around(self, callback: Any) -> Any:
        def probed(mic: Any, out: Any, frames: int, when: Any, flags: Any) -> None:
            wall_s, start_s, start_cpu_s = time.time(), time.monotonic(), time.thread_time()
            if self.real_time is None:
                self.real_time = into_real_time()
            callback(mic, out, frames, when, flags)
            end_s, cpu_s = time.monotonic(), time.thread_time() - start_cpu_s
            clocks = (wall_s, start_s)  # PortAudio's clock is one of them, by system and library
            wait_s = min((clock - when.currentTime for clock in clocks), key=abs)
            self.rows.append((wait_s, end_s - start_s, cpu_s))

        return probed

    def install(self) -> None:
        import sounddevice

        real = sounddevice.Stream
        sounddevice.Stream = lambda *args, callback, **options: real(
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

        return MoshiEngine(moshi_mlx.load("nano"), "nano")
    from tests.support.fake_engine import FakeEngine

    return FakeEngine(lambda: 0.04)


def child(load: str, seconds: float) -> dict[str, Any]:
    """One talk in this process; percentiles in ms, callbacks and flags."""
    probe = Probe()
    probe.install()
    sound, session = DeviceSound(), Session(lambda: make_engine(load))
    session.start()
    while session.status.state == "loading":
        time.sleep(0.05)
    spare_the_collector()
    if load == "thread":
        threading.Thread(target=hold_the_lock, daemon=True).start()
    sound.start()
    session.begin(sound, Settings())
    time.sleep(SETTLE_S)
    first = len(probe.rows)
    time.sleep(seconds)
    rows = 1000 * np.array(probe.rows[first:])
    found = {
        name: [round(float(np.percentile(rows[:, i], percent)), 3) for percent in PERCENTS]
        for i, name in enumerate(("wait", "own", "cpu"))
    }
    session.stop()
    sound.stop()
    about = {"callbacks": len(rows), "flags": sound.xruns, "real_time": probe.real_time}
    return found | about | {"starved": sound.playout.starved}


def hold_the_lock() -> None:
    while True:
        sum(range(100))


def run(env: dict[str, str], load: str, seconds: float, interval_s: float) -> dict[str, Any]:
    """A child under its load; with one core busier than there are for `processes`."""
    busy = os.cpu_count() or 1 if load == "processes" else 0
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    command = [sys.executable, __file__, "--child", load, "--seconds", str(seconds)]
    try:
        done = subprocess.run(
            [*command, "--interval", str(interval_s)],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    about = {"load": load, "switch_interval_ms": 1000 * interval_s}
    return about | json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", choices=LOADS, help=argparse.SUPPRESS)
    parser.add_argument("--interval", type=float, default=SWITCH_INTERVAL_S, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        sys.setswitchinterval(args.interval)
        print(json.dumps(child(args.child, args.seconds)))
        return
    from tests.support.pulse import Pulse

    pulse, waits = Pulse(), {}
    try:
        for _ in range(args.rounds):
            for load in LOADS:
                for interval_s in (0.005, SWITCH_INTERVAL_S):
                    found = run(pulse.env, load, args.seconds, interval_s)
                    print(json.dumps(found), flush=True)
                    waits.setdefault((load, interval_s), []).append(found["wait"][0])
    finally:
        pulse.close()
    best = {key: min(found) for key, found in waits.items()}
    ratio = best["thread", SWITCH_INTERVAL_S] / best["thread", 0.005]
    print(json.dumps({"median wait beside a busy thread, ours to default": round(ratio, 3)}))


if __name__ == "__main__":
    main()
