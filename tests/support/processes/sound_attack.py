"""Holds a talk over the sound card in its environment and attacks its sound process.

    python tests/support/processes/sound_attack.py TIMES SIGNAL

Prints one line of JSON: what was lost each time, and whether all the samples are in their places.
"""

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from app.audio.device_sound import DeviceSound
from moshi_mlx.clock import SAMPLE_RATE_HZ

EVERY_S = (1.5, 2.5)  # time for a spare to get ready
BLOCKS_A_SECOND = 12


class Listener(threading.Thread):
    """Reads a sound as the model does: captures, and answers with what it likes."""

    def __init__(self, sound):
        super().__init__(daemon=True)
        self.sound, self.captures, self.over = sound, [], threading.Event()
        self.rng = np.random.default_rng(1)

    def run(self):
        while not self.over.is_set():
            capture = self.sound.read(0.2)
            if capture is not None:
                self.captures.append(capture)
                self.sound.play(0.3 * self.rng.standard_normal(1920).astype(np.float32))


def lag_of(mic, played):
    """Samples from played to heard, and how much of what was heard is explained by that."""
    n = 1 << (2 * len(mic)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(mic, n) * np.conj(np.fft.rfft(played, n)), n)
    lag = int(np.argmax(np.abs(cross[: len(mic)])))
    heard, said = mic[lag:], played[: len(mic) - lag]
    return lag, float(np.dot(heard, said) / np.linalg.norm(heard) / np.linalg.norm(said))


def earliest(ahead_s):
    """The least of each second: a block that came late is early again with the next, samples that
    are missing stay missing."""
    return [ahead_s[n : n + BLOCKS_A_SECOND].min() for n in range(len(ahead_s) - BLOCKS_A_SECOND)]


def attack(times, number):
    rng, sound = random.Random(times), DeviceSound()
    sound.start()
    listener = Listener(sound)
    listener.start()
    outages, lags = [], []
    time.sleep(2.0)
    for _ in range(times):
        time.sleep(rng.uniform(*EVERY_S))
        newest = listener.captures[-12:-1]
        mic, played = (np.concatenate([getattr(c, n) for c in newest]) for n in ("mic", "played"))
        lags.append(lag_of(mic, played))
        pid, before_s = sound.process_id, time.monotonic()
        os.kill(pid, number)
        while sound.process_id == pid or sound.heard_s < before_s:
            time.sleep(0.002)
        outages.append(sound.heard_s - before_s)
    time.sleep(1.0)
    listener.over.set()
    listener.join()
    sound.stop()
    samples = np.cumsum([len(capture.mic) for capture in listener.captures])
    ahead_s = np.array([capture.captured_s for capture in listener.captures])
    ahead_s -= samples / SAMPLE_RATE_HZ
    return {
        "outages_s": [round(outage, 3) for outage in outages],
        "lags": [lag for lag, _ in lags],
        "same": [round(same, 4) for _, same in lags],
        "drift_s": round(float(np.ptp(earliest(ahead_s))), 4),
        "processes_left": children_of(os.getpid()),
    }


def children_of(pid):
    """Processes that one has started and not waited for."""
    tasks = Path(f"/proc/{pid}/task")
    found = [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
    return [int(child) for child in found]


if __name__ == "__main__":
    print(json.dumps(attack(*map(int, sys.argv[1:]))))
