"""An hour of talk through the real session with a real model of random weights, on a virtual clock.

The microphone's samples are numbers, so that a lost or repeated one shows; what is played must be
the model's replies, sample for sample. A quarter of a minute always; the hour: `make test-long`.
"""

import gc
import random
import threading
from collections import deque
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from app.audio.stream.playout import FADE_SAMPLES
from app.audio.virtual_port import VirtualPort
from app.events import ConversationEnded, Event, FrameDone, Settings
from app.talk.engine import Engine, EngineReply, EngineTalk
from app.talk.moshi_engine import MoshiEngine
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from tests.support.models.tiny_moshi import tiny_moshi
from tests.support.process_memory import resident_bytes

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
MODULUS = 1 << 24  # integers below it, times 2**-25, are exact in float32
SETTLED_FRAMES = 60  # the rings are full, everything is traced
WOBBLE_BYTES = 50_000  # of MLX's memory: what a step holds while it runs


class PacedTalk:
    """A real model's talk that takes 40 to 59 ms of virtual time."""

    def __init__(self, talk: EngineTalk, port: VirtualPort) -> None:
        self._talk, self._port, self._rng, self.seed = talk, port, random.Random(4), talk.seed
        self.encodes_ahead = talk.encodes_ahead
        self.notes, self.prompt_until = talk.notes, talk.prompt_until

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        reply = self._talk.step(frame, hold, following)
        self._port.advance(self._rng.uniform(0.040, 0.059))
        return reply

    def close(self) -> None:
        self._talk.close()


class PacedEngine:
    def __init__(self, engine: Engine, port: VirtualPort) -> None:
        self._engine, self._port = engine, port
        self.name, self.recipe = engine.name, engine.recipe
        self.mark, self.revision = engine.mark, engine.revision
        self.adapter, self.personas, self.voices = engine.adapter, engine.personas, engine.voices
        self.adapters = engine.adapters

    def begin(self, settings: Settings) -> PacedTalk:
        return PacedTalk(self._engine.begin(settings), self._port)

    def keep_warm(self) -> None:
        pass

    def memory_bytes(self) -> int:
        return self._engine.memory_bytes()


class Hour:
    """Source, sink and listener of one talk of so many seconds, checked as it goes."""

    def __init__(self, engine: Engine, seconds: int) -> None:
        self.total = seconds * SAMPLE_RATE_HZ
        self.said = self.heard = self.played = 0
        self._waiting: deque[np.ndarray] = deque()  # replies that the speaker must still play
        self.marks: list[tuple[int, int, int]] = []
        self.port = VirtualPort(self.speak, self.hear)
        self.session = TalkSession(lambda: PacedEngine(engine, self.port))
        self.session.subscribe(self.listen)

    def run(self) -> None:
        self.session.begin(self.port, Settings(seed=1))
        self.session.run()
        self.port.drain()
        if self.session.failure is not None:
            raise self.session.failure

    def speak(self, n: int) -> np.ndarray | None:
        if self.said >= self.total:
            return None
        self.said += n
        return numbers(self.said - n, n)

    def listen(self, event: Event) -> None:
        if isinstance(event, ConversationEnded):
            self.session.finish()
        if not isinstance(event, FrameDone):
            return
        assert np.array_equal(event.heard, numbers(self.heard, FRAME_SAMPLES)), event.index
        assert event.dropped_now_samples == 0
        self.heard += FRAME_SAMPLES
        if event.reply is not None:
            self._waiting.append(event.reply)
        last = self.total // FRAME_SAMPLES - 1
        if event.index in (SETTLED_FRAMES, last // 2, last):
            gc.collect()
            self.marks.append((resident_bytes(), mx.get_active_memory(), system_threads()))

    def hear(self, block: np.ndarray) -> None:
        if not self._waiting:
            return
        wanted = self._waiting[0][: len(block)]
        faded = 0 if self.played else FADE_SAMPLES  # the very first sound is faded in
        assert np.array_equal(block[faded:], wanted[faded:]), self.played
        self.played += len(block)
        rest = self._waiting.popleft()[len(block) :]
        if len(rest):
            self._waiting.appendleft(rest)

    def finished(self) -> bool:
        return not self._waiting


def numbers(first: int, n: int) -> np.ndarray:
    return ((np.arange(first, first + n) % MODULUS) / (2 * MODULUS)).astype(np.float32)


def system_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@needs_proc
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seconds", [14, pytest.param(3600, marks=pytest.mark.long)])
def test_every_sample_is_heard_and_played_once_in_flat_memory(tmp_path, seconds):
    engine = MoshiEngine(tiny_moshi(tmp_path), "tiny", "fp32")
    threads = threading.active_count()
    hour = Hour(engine, seconds)
    hour.run()
    assert hour.heard == seconds * SAMPLE_RATE_HZ, "nothing lost, nothing heard twice"
    late = engine._moshi.config.max_delay * FRAME_SAMPLES  # no reply while the delays fill
    assert hour.played == hour.heard - late and hour.finished()
    assert hour.port.playout.underruns == 0, "no underrun"
    assert hour.port.playout.skipped_samples == 0
    (first, device, system), *_, (last, device_last, system_last) = hour.marks
    print(f"{seconds} s: {last - first:+} bytes resident, {device_last - device:+} of MLX's")
    assert last - first < 4e6, hour.marks
    assert max(mark[1] for mark in hour.marks) - device < WOBBLE_BYTES, hour.marks
    assert threading.active_count() == threads and system_last == system, hour.marks
