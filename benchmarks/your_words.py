"""What `--your-words` costs a talk: its own process, and the talk's, with and without in one run.

    python -m benchmarks.your_words [--stt FOLDER] [--turns 40]

The embedded model holds two talks that take turns of five frames at the pace of speech; the frames
of one go to a speech to text model in a process beside it, as in `moshi chat --your-words`. Medians
of a frame, CPU time for each frame of both processes. One line of JSON.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import moshi_mlx
from app.events import ConversationStarted, FrameDone, Settings
from app.machine.readers import child_command
from app.speech.words_beside import WordsBeside
from app.talk.moshi_engine import MoshiEngine
from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS

ROOT = Path(__file__).parents[1]
STT = ROOT / "tests" / "golden" / "dsm_stt"
TURN_FRAMES, WARM_TURNS = 5, 4


def cpu_s(pid: int) -> float:
    """User and system time of a process, all of its threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Side:
    """A talk, with or without somebody who writes down."""

    def __init__(self, engine: MoshiEngine, words: WordsBeside | None, number: int) -> None:
        self._talk, self._words, self._number = engine.begin(Settings(seed=number)), words, number
        self.step_ms: list[float] = []
        self.cpu_ms = self.words_cpu_ms = 0.0
        if words is not None:
            words(ConversationStarted(number, number, Settings()))

    def turn(self, sound: np.ndarray, pid: int, counts: bool) -> None:
        cpu_before_s, words_before_s = time.process_time(), cpu_s(pid)
        due_s = time.monotonic()
        for frame in sound:
            start_s = time.perf_counter()
            reply = self._talk.step(frame)
            took_ms = 1000 * (time.perf_counter() - start_s)
            done = FrameDone(
                *(self._number, 0, frame, reply.pcm, reply.text, 0),
                *(took_ms, 0.0, 0.0, 0.0, 0),
            )
            if self._words is not None:
                self._words(done)
            if counts:
                self.step_ms.append(took_ms)
            due_s += FRAME_SECONDS
            time.sleep(max(0.0, due_s - time.monotonic()))
        if counts:
            self.cpu_ms += 1000 * (time.process_time() - cpu_before_s)
            self.words_cpu_ms += 1000 * (cpu_s(pid) - words_before_s)


def measured(stt: Path, turns: int) -> dict[str, Any]:
    engine = MoshiEngine(moshi_mlx.load("nano", codec="mlx"), "nano", "bf16")
    command, environment = child_command("speech.words_child", str(stt))
    words = WordsBeside(command, environment, lambda event: None)
    rng, pid = np.random.default_rng(0), words.process_id
    sides = {"off": Side(engine, None, 1), "on": Side(engine, words, 2)}
    for turn in range(WARM_TURNS + turns):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            sound = 0.05 * rng.standard_normal((TURN_FRAMES, FRAME_SAMPLES)).astype(np.float32)
            sides[name].turn(sound, pid, turn >= WARM_TURNS)
    words.close(10.0)
    frames = turns * TURN_FRAMES
    off, on = sides["off"], sides["on"]
    return {
        "frames": frames,
        "frame_ms": [round(median(side.step_ms), 2) for side in (off, on)],
        "frame_ratio": round(median(on.step_ms) / median(off.step_ms), 3),
        "cpu_ms": [round(side.cpu_ms / frames, 2) for side in (off, on)],
        "cpu_ratio": round(on.cpu_ms / off.cpu_ms, 3),
        "words_cpu_ms": [round(side.words_cpu_ms / frames, 2) for side in (off, on)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stt", type=Path, default=STT, help="a speech to text model's folder")
    parser.add_argument("--turns", type=int, default=40, help="of five frames, each side")
    args = parser.parse_args()
    print(json.dumps(measured(args.stt, args.turns)))


if __name__ == "__main__":
    main()
