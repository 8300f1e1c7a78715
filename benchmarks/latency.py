"""How long a click takes once around: our session against the structure of Kyutai's local client.

    python -m benchmarks.latency [--seconds 12] [--rounds 2] [--step-ms 50] [--beside]

Both run through real PortAudio on PulseAudio null sinks whose microphone hears the loudspeaker,
with the same fake model: it answers a click with a click at the same place of its frame, after 50
+- 10 ms. So a click goes round and round, and the samples between two hearings are the whole
delay: the frame, the model, the queues, the playout and the devices. Kyutai's structure is
rebuilt from `moshi_mlx/local.py` of moshi_mlx 0.3.0: two streams of 1920 samples with PortAudio's
default latency, queues polled every millisecond, whole frames out (but without its processes, in
its favour). `--beside` measures ours against ours: the last 15 ms of the model's time are spent as
rustymimi's decoder does, on a thread of its own. The last line is the comparison, in JSON.
"""

import argparse
import json
import queue
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.audio.device_sound import DeviceSound
from app.audio.stream.port import Capture
from app.events import Settings
from app.talk.engine import EngineReply, TalkFile
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.codec.cpu_threads import DecodeBehind
from moshi_mlx.codec.interface import CodecStream
from moshi_mlx.errors import MoshiError

CLICK, HEARD = 0.5, 0.1
PATIENCE_FRAMES = 25  # 2 s without a click: it was lost, begin again
DECODE_MS = 15.0


class ClickModel:
    """Engine and talk in one: answers clicks, takes its time."""

    name, recipe, seed, encodes_ahead = "click", "fp32", 0, False
    mark, revision, adapter = "none", "", ""
    personas, voices, adapters = False, (), ()
    notes: tuple[str, ...] = ()
    prompt_until: int | None = None

    def __init__(self, step_ms: float) -> None:
        self._rng, self._step_ms, self._quiet = random.Random(1), step_ms, 0

    def begin(self, settings: Settings) -> "ClickModel":
        return self

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        time.sleep((self._step_ms + self._rng.uniform(-10, 10)) / 1000)
        out = np.zeros(FRAME_SAMPLES, np.float32)
        heard = np.flatnonzero(np.abs(frame) > HEARD)
        self._quiet = 0 if len(heard) else self._quiet + 1
        if len(heard):
            out[heard[0]] = CLICK
        elif self._quiet >= PATIENCE_FRAMES:
            out[FRAME_SAMPLES // 2], self._quiet = CLICK, 0
        return EngineReply(out)

    def keep(self, note: str) -> TalkFile:
        raise MoshiError("clicks aren't saved")

    def close(self) -> None:
        pass

    def keep_warm(self) -> None:
        pass

    def memory_bytes(self) -> int:
        return 0


class BesideModel(ClickModel):
    """The same time, but the end of it on the decoder's thread."""

    def __init__(self, step_ms: float) -> None:
        super().__init__(step_ms - DECODE_MS)
        self._behind = DecodeBehind()

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        reply = super().step(frame, hold, following)
        return EngineReply(None, later=self._behind.begin(cast(CodecStream, self), reply.pcm))

    def decode(self, pcm: np.ndarray) -> np.ndarray:
        time.sleep(DECODE_MS / 1000)
        return pcm

    def close(self) -> None:
        self._behind.close()


class Ear:
    """Positions of the clicks heard, in samples of the microphone."""

    def __init__(self) -> None:
        self.samples, self.clicks = 0, []

    def __call__(self, mic: np.ndarray) -> None:
        for at in np.flatnonzero(np.abs(mic) > HEARD):
            self.clicks.append(self.samples + int(at))
        self.samples += len(mic)

    def round_trips_ms(self) -> list[float]:
        """Without the gaps where a click got lost."""
        gaps = np.diff(self.clicks) * 1000 / SAMPLE_RATE_HZ
        return [float(gap) for gap in gaps if FRAME_MS < gap < 1500]


class ListeningPort:
    """A sound's port with an ear in it."""

    def __init__(self, sound: DeviceSound) -> None:
        self.ear, self._sound = Ear(), sound
        self.now, self.play = sound.now, sound.play
        self.buffered_s, self.flush = sound.buffered_s, sound.flush

    def read(self, timeout_s: float) -> Capture | None:
        capture = self._sound.read(timeout_s)
        if capture is not None:
            self.ear(capture.mic)
        return capture


def ours(step_ms: float, seconds: float, model: type[ClickModel] = ClickModel) -> Ear:
    sound = DeviceSound()
    port = ListeningPort(sound)
    session = TalkSession(lambda: model(step_ms))
    sound.start()
    session.start()
    session.begin(port, Settings(seed=0))
    time.sleep(seconds)
    session.stop()
    sound.stop()
    return port.ear


def kyutais(step_ms: float, seconds: float) -> Ear:
    import sounddevice as sd

    ear, model, stop = Ear(), ClickModel(step_ms), threading.Event()
    heard: queue.Queue[np.ndarray] = queue.Queue()
    said: queue.Queue[np.ndarray] = queue.Queue()

    def on_input(mic, frames, when, flags) -> None:
        ear(mic[:, 0])
        heard.put_nowait(mic[:, 0].astype(np.float32))

    def on_output(out, frames, when, flags) -> None:
        try:
            out[:, 0] = said.get(block=False)
        except queue.Empty:
            out.fill(0)

    def work() -> None:
        while not stop.is_set():
            time.sleep(0.001)
            try:
                frame = heard.get(block=False)
            except queue.Empty:
                continue
            reply = model.step(frame).pcm
            assert reply is not None  # decoded at once
            said.put_nowait(reply)

    worker = threading.Thread(target=work)
    common = {"samplerate": SAMPLE_RATE_HZ, "channels": 1, "blocksize": FRAME_SAMPLES}
    with (
        sd.InputStream(callback=on_input, **common),
        sd.OutputStream(callback=on_output, **common),
    ):
        worker.start()
        time.sleep(seconds)
        stop.set()
        worker.join()
    return ear


STRUCTURES = {"ours": ours, "kyutais": kyutais, "beside": partial(ours, model=BesideModel)}


def measure(
    seconds: float, rounds: int, step_ms: float, other: str = "kyutais"
) -> dict[str, float]:
    """Ours and another by turns on one daemon, each in its own process -> medians in ms."""
    from tests.support.processes.pulse import Pulse

    trips: dict[str, list[float]] = {"ours": [], other: []}
    pulse = Pulse(loopback=True)
    try:
        for _ in range(rounds):
            for name in trips:
                command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds)]
                command += ["--step-ms", str(step_ms)]
                done = subprocess.run(
                    command, env=pulse.env, capture_output=True, text=True, check=True
                )
                trips[name] += json.loads(done.stdout.splitlines()[-1])
    finally:
        pulse.close()
    result: dict[str, float] = {f"{name}_ms": median(found) for name, found in trips.items()}
    result |= {f"{name}_clicks": len(found) for name, found in trips.items()}
    result["less_ms"] = result[f"{other}_ms"] - result["ours_ms"]
    result["ratio"] = result["ours_ms"] / result[f"{other}_ms"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--step-ms", type=float, default=50.0)
    parser.add_argument("--beside", action="store_true", help="ours against ours, see above")
    parser.add_argument("--child", choices=STRUCTURES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        ear = STRUCTURES[args.child](args.step_ms, args.seconds)
        print(json.dumps(ear.round_trips_ms()))
        return
    other = "beside" if args.beside else "kyutais"
    found = measure(args.seconds, args.rounds, args.step_ms, other)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
