"""A talk's frames as the device gets them: nothing is traced late, one wait each, memory is flat.

Shapes: K codebooks.
"""

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.codec.interface import CodecState, CodecStream, LazyStream
from moshi_mlx.hub import NANO
from moshi_mlx.lm.buffers import Buffers
from moshi_mlx.lm.generator import Forced, LmGenerator, Step, Submitted
from moshi_mlx.lm.sampling import samplers
from moshi_mlx.mimi import Mimi
from moshi_mlx.mimi.loading import config_beside
from moshi_mlx.mimi.state import State
from moshi_mlx.mimi.tensors import Tensors
from moshi_mlx.moshi import Moshi, Session
from moshi_mlx.session.path import FramePath, MakePath, path_for
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.weights.loading import load_lm, working_dtype
from moshi_mlx.weights.safetensors import read_safetensors

from .. import probe
from ..models import RIGHT
from ..part import NONE, UNCOMPILED, Deviation, Fallback, Note, NotHereError
from ..site import DTYPES, Site

NODE = re.compile(r'\[label ="([^"]+)", shape=rectangle\]')
LOUDNESS = 0.05
WARM_FRAMES, WAIT_FRAMES = 4, 6
PAST_THE_WRAP = 12
SETTLING_FRAMES = 20
# Metal's buffers are whole pages, and a frame's may all be there until its commands are through:
# 3 MB in 200 buffers. Half a ring must be far more.
RING = 24_000
MB = 1e6


def noise(frames: int) -> np.ndarray:
    """float32 [frames, 1920]."""
    drawn = probe.random("noise").standard_normal((frames, FRAME_SAMPLES))
    return (LOUDNESS * drawn).astype(np.float32)


class CountedMimi(Mimi):
    """Counts how often its steps are run in Python: where they are compiled, while traced alone."""

    traces = 0

    def encode_step(self, pcm: mx.array, state: State) -> tuple[mx.array, State]:
        self.traces += 1
        return super().encode_step(pcm, state)

    def decode_step(self, codes: mx.array, state: State) -> tuple[mx.array, State]:
        self.traces += 1
        return super().decode_step(codes, state)


def talker(compiled: bool) -> tuple[Moshi, CountedMimi]:
    """The embedded model with its codec in MLX, `compiled` as a GPU has it."""
    path = NANO / "mimi.safetensors"
    lm = load_lm(NANO, working_dtype(None), memory_limits=False)
    tensors = Tensors(read_safetensors(path), path.name, mx.float32)
    mimi = CountedMimi(config_beside(path), tensors, lm.config.mimi_codebooks, compiled)
    return Moshi(lm, mimi, TextTokenizer(NANO / "tokenizer.model"), NANO), mimi


def warmed(session: Session) -> None:
    """As before a talk."""
    session.moshi.warm_up()
    session.warm_up()


@dataclass(frozen=True)
class WarmUpCheck:
    """No frame builds a graph after warm-up, until the ring has wrapped.

    `warm`: what is done before the talk; `frames`: a shorter talk.
    """

    warm: Callable[[Session], None] = warmed
    frames: int | None = None
    name: str = "warm-up"
    fallback: Fallback = UNCOMPILED

    def check(self, site: Site) -> Iterator[Deviation | Note]:
        if not site.compiles:
            raise NotHereError("nothing is compiled here: there is no C++ compiler that works")
        with site.under_test():
            moshi, mimi = talker(site.on_gpu)
            function = moshi.lm.functions.of(samplers(moshi.config.sampling))
            wrapped = (moshi.config.transformer.context or 0) + PAST_THE_WRAP
            frames, times = noise(self.frames or wrapped), []
            with moshi.session(seed=0, mark=None) as session:
                self.warm(session)
                before = function.traces, mimi.traces
                for frame in frames:
                    start = time.perf_counter()
                    session.step(frame)
                    times.append(time.perf_counter() - start)
        built = float(function.traces - before[0])
        yield Deviation("graphs of the language model", built, 0.0, "graphs")
        if site.on_gpu:
            built = float(mimi.traces - before[1])
            yield Deviation("graphs of the codec", built, 0.0, "graphs")
        yield Note(f"slowest frame {max(times) / np.median(times):.1f} x the median")


def pending(arrays: Sequence[mx.array]) -> int:
    """Operations that arrays wait for; of evaluated ones there are none."""
    text = io.StringIO()
    mx.export_to_dot(text, *arrays)
    return len(NODE.findall(text.getvalue()))


class Waits:
    """How often the host waited for the device, as far as that can be told from outside."""

    def __init__(self) -> None:
        self.count = 0

    def expect_pending(self, arrays: Sequence[mx.array]) -> None:
        """Lazy arrays that are there already were waited for."""
        self.count += sum(pending([array]) == 0 for array in arrays)

    def expect_there(self, arrays: Sequence[mx.array]) -> None:
        """What isn't there will be waited for."""
        self.count += pending(arrays) > 0


class WatchedGenerator:
    """A generator whose waits are counted."""

    def __init__(self, inner: LmGenerator, waits: Waits) -> None:
        self._inner, self._waits = inner, waits

    @property
    def steps(self) -> int:
        return self._inner.steps

    def warm_up(self, user_later: bool = False) -> None:
        self._inner.warm_up(user_later)

    def step(self, user_codes: Any, forced: Forced | None = None) -> Step:
        self._waits.count += 1
        return self._inner.step(user_codes, forced)

    def submit(self, user_codes: Any, forced: Forced | None = None) -> Submitted:
        return self._inner.submit(user_codes, forced)

    def finish(self, submitted: Submitted, others: Sequence[mx.array] = ()) -> Step:
        self._waits.expect_pending([*submitted.arrays(), *others])
        step = self._inner.finish(submitted, others)
        self._waits.count += 1
        self._waits.expect_there([*others, *self._inner.buffers.arrays()])
        return step


class WatchedStream:
    """A codec's stream whose waits are counted."""

    def __init__(self, inner: CodecStream, waits: Waits) -> None:
        self._inner, self._waits = inner, waits

    @property
    def graph(self) -> LazyStream | None:
        return self._inner.graph

    def encode(self, frame: np.ndarray) -> np.ndarray:
        self._waits.count += 1
        return self._inner.encode(frame)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        self._waits.count += 1
        return self._inner.decode(codes)

    def state(self) -> CodecState:
        return self._inner.state()


@dataclass(frozen=True)
class WaitCheck:
    """Codec and language model are one graph, which the host waits for once a frame."""

    make_path: MakePath = path_for
    name: str = "one wait a frame"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        waits = Waits()

        def watched(generator: LmGenerator, stream: CodecStream, user_q: int) -> FramePath:
            inner: Any = WatchedGenerator(generator, waits)
            return self.make_path(inner, WatchedStream(stream, waits), user_q)

        with site.under_test():
            moshi, _ = talker(site.on_gpu)
            with Session(moshi, seed=0, make_path=watched, mark=None) as session:
                session.warm_up()
                for frame in noise(WARM_FRAMES):
                    session.step(frame)
                waits.count = 0
                for frame in noise(WAIT_FRAMES):
                    session.step(frame)
        yield Deviation("waits a frame", waits.count / WAIT_FRAMES, 1.0, "waits")


def nobody(buffers: Buffers) -> list[mx.array]:
    return []


def settled() -> int:
    """Bytes that MLX holds once a GPU has given back what its last commands used."""
    mx.synchronize()
    return mx.get_active_memory()


@dataclass(frozen=True)
class InPlaceCheck:
    """Frames around the ring's wrap: memory stays as it is, and no ring is copied.

    `held`: who else holds the rings while a frame is computed; then they must be copied.
    `settling`: frames before, that memory is as it will be.
    """

    held: Callable[[Buffers], list[mx.array]] = nobody
    frames: int = 300
    settling: int = SETTLING_FRAMES
    name: str = "memory of a talk"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        raw = {**probe.SMALL_TALKER, "context": RING}
        with site.under_test():
            lm = RIGHT.lm(raw, DTYPES["bf16" if site.on_gpu else "fp32"])
            talk = lm.generator(seed=0, compiled=site.on_gpu)
            talk.skip(RING - self.settling - self.frames // 2)
            user = np.zeros(lm.config.user_q, np.int32)
            one_ring = talk.buffers.nbytes() / len(talk.buffers.rings)
            for _ in range(self.settling):
                self.step(talk, user)
            before = settled()
            mx.reset_peak_memory()
            for _ in range(self.frames):
                self.step(talk, user)
            peak, grown = mx.get_peak_memory() - before, settled() - before
        yield Deviation("memory more at the end", max(0, grown) / MB, 1.0, "MB")
        yield Deviation("memory more within a frame", peak / MB, one_ring / 2 / MB, "MB")

    def step(self, talk: LmGenerator, user: np.ndarray) -> None:
        others = self.held(talk.buffers)
        talk.step(user)
        del others
