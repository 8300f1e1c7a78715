"""`moshi chat` as its user starts it: a process of its own, whose lines a test can wait for."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import soundfile

from tests.support.processes.endings import nothing_ignored

GREEDY = ("--seed", "0", "--text-temperature", "0", "--audio-temperature", "0")
COMMAND = ("-m", "app.cli")
CHAT = ("chat", "--model", "nano", "--plain", *GREEDY)


class ChatProcess:
    """Use it as a context manager; `env` from a Pulse, or None with virtual devices."""

    def __init__(self, folder: Path, *args: str, env=None, start=COMMAND, chat=CHAT, **options):
        """start: Python's own arguments; chat: what the command line begins with."""
        self.out, self.err = folder / "stdout", folder / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            io = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err} | options
            io["preexec_fn"] = both(nothing_ignored, options.get("preexec_fn"))
            command = [sys.executable, "-X", "faulthandler", *start, *chat, *args]
            self.process = subprocess.Popen(command, env=env, **io)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def said(self) -> str:
        return self.out.read_text()

    @property
    def notes(self) -> str:
        return self.err.read_text()

    def wait_for(self, text: str, timeout_s: float = 60.0, where=None) -> float:
        """Until stderr (or the file `where`) holds `text`; returns the seconds it took."""
        start = time.monotonic()
        while text not in (where or self.err).read_text():
            assert self.process.poll() is None, f"ended: {self.notes}"
            assert time.monotonic() - start < timeout_s, f"no {text!r} in: {self.notes}"
            time.sleep(0.02)
        return time.monotonic() - start

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self, timeout_s: float = 60.0) -> int:
        return self.process.wait(timeout_s)


def both(first, second):
    def call():
        first()
        if second is not None:
            second()

    return call


def takes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def check_take(take: Path, finished: bool = True) -> dict:
    """A recording that can be used: readable, its parts equally long; returns its manifest."""
    manifest = json.loads((take / "manifest.json").read_text())
    assert manifest["finished"] is finished
    timings = [json.loads(line) for line in (take / "timings.jsonl").read_text().splitlines()]
    for line in (take / "transcript.jsonl").read_text().splitlines():
        json.loads(line)
    assert (take / "transcript.vtt").read_text().startswith("WEBVTT")
    sound, rate = soundfile.read(take / "talk.wav", always_2d=True)
    assert rate == 24_000 and sound.shape[1] == 2
    if finished:
        assert len(sound) == 1920 * len(timings) == 1920 * manifest["frames"]
        assert not list(take.glob("*.part"))
    return manifest | {"timings": timings, "sound": sound}


def dropped_frames(folder: Path) -> float:
    """Input that a talk left out because the machine had other things to do, as it tells itself."""
    (take,) = takes_in(folder)
    return json.loads((take / "manifest.json").read_text())["dropped_frames"]


def check_answer(folder: Path, said: str, answer: str) -> None:
    """Words on stdout and in the transcript are the same, and right: a file waits for the model,
    however busy the machine is.
    """
    (take,) = takes_in(folder)
    lines = (take / "transcript.jsonl").read_text().splitlines()
    words = "".join(json.loads(line)["text"] for line in lines).strip()
    assert said.split() == words.split()
    assert words == answer and dropped_frames(folder) == 0
