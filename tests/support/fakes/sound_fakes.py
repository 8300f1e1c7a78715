"""The sound process with PortAudio replaced: devices and their whims come from a folder.

`Card(folder)` is the test's side. `devices.json` holds what a scan finds, `whims.json` what a
stream does that is opened from then on; `opened.jsonl` tells what was opened. Streams are called at
50 Hz with a microphone that hears the loudspeaker, a block later.
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]


class Card:
    def __init__(self, folder, devices):
        self.folder = folder
        self.plug(devices)
        self.whims()

    def plug(self, devices):
        self._write("devices.json", [asdict(device) for device in devices])

    def whims(self, **whims):
        """silent: names of devices that never call back (True: none does), silent_after: blocks;
        refuses: an error for it; blocks_s; stops_after: blocks; takes_only_own_rates; crashes:
        while it is opened; zeros, flags, late: of each block; block_s: how long one takes; only:
        the devices that are like that."""
        self._write("whims.json", whims)

    def unblock(self):
        """Let every opening go on that blocks."""
        (self.folder / "unblocked").touch()

    def _write(self, name, value):
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps(value))
        new.rename(self.folder / name)

    @property
    def opened(self):
        """(input, output, plan) of each opening."""
        path = self.folder / "opened.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def played(self):
        """What a loudspeaker alone has played, float32 [blocks, 480]."""
        return np.frombuffer((self.folder / "played").read_bytes(), np.float32).reshape(-1, 480)

    @property
    def command(self):
        return (str(Path(__file__).resolve()), str(self.folder))


def child(folder):
    sys.path.insert(0, str(ROOT))
    from app.audio.devices.device import Device
    from app.audio.process.child import main
    from moshi_mlx.errors import AudioError

    def scan(again=False):
        found = json.loads((folder / "devices.json").read_text())
        if not found:
            raise AudioError("no devices")
        return [Device(**device) for device in found]

    class Stream:
        def __init__(self, callbacks, plan, ended):
            whims = json.loads((folder / "whims.json").read_text())
            names = {device.index: device.name for device in scan()} | {None: None}
            pair = (names[plan.input], names[plan.output])
            with (folder / "opened.jsonl").open("a") as log:
                log.write(json.dumps([*pair, asdict(plan)]) + "\n")
            if "only" in whims and not set(whims["only"]) & set(pair):
                whims = {}
            until_s = time.monotonic() + whims.get("blocks_s", 0)
            while time.monotonic() < until_s and not (folder / "unblocked").exists():
                time.sleep(0.01)
            if whims.get("takes_only_own_rates") and plan.own_rates_hz is None:
                raise AudioError("Invalid sample rate")
            if "refuses" in whims:
                raise AudioError(whims["refuses"])
            if "crashes" in whims:
                os._exit(1)
            self.run, self.pair = (callbacks, plan, ended, whims), pair
            threading.Thread(target=self._run, daemon=True).start()

        def _run(self):
            callbacks, plan, ended, whims = self.run
            played = (folder / "played").open("ab", buffering=0)
            out, due_s, blocks = np.zeros(480, np.float32), time.monotonic(), 0
            lost, late = bool(whims.get("flags")), bool(whims.get("late"))
            while blocks != whims.get("stops_after"):
                time.sleep(max(0.0, due_s - time.monotonic()))
                hears, plays = self._called(blocks)
                mic = out + 1e-3 if hears and not whims.get("zeros") else 0 * out
                if plan.input is None and plays:
                    callbacks.render(out)
                    played.write(out.tobytes())
                elif plan.output is None:
                    if hears:
                        callbacks.capture(mic, lost)
                elif plan.split:
                    if plays:
                        callbacks.render(out, late)
                    if hears:
                        callbacks.capture(mic, lost)
                elif plays:  # macOS calls by the speaker's clock, whatever the microphone does
                    callbacks.exchange(mic, out, lost or not hears, late)
                due_s, blocks = due_s + whims.get("block_s", 0.02), blocks + 1
            ended(True, True)

        def _called(self, blocks):
            """Which sides are called for this block."""
            _, _, _, whims = self.run
            silent = whims.get("silent", ())
            if blocks < whims.get("silent_after", 0):
                return True, True
            return tuple(silent is not True and name not in silent for name in self.pair)

    main(scan, Stream)


if __name__ == "__main__":
    child(Path(sys.argv[1]))
