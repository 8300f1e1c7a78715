"""What only a GPU shows, run both ways on the CPU, and its faults."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.bench.floor import Bandwidth
from app.doctor.speed import Speed
from app.machine.power import Power
from app.machine.random_model import shape_config
from app.selftest import probe
from app.selftest.examine import examine
from app.selftest.models import RIGHT
from app.selftest.part import FAILED, NOT_HERE, OFF, OK, Deviation, Part
from app.selftest.parts.device import LimitCheck, SpeedCheck
from app.selftest.parts.frames import RING, InPlaceCheck, WaitCheck, WarmUpCheck, pending
from app.selftest.parts.language import CompiledCheck
from app.selftest.parts.pauses import PauseCheck, steps_of
from app.selftest.parts.products import RecipeCheck
from app.selftest.site import Site
from benchmarks.graph import UPDATES, is_view
from benchmarks.step_graph import frame_of
from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.codec.interface import CodecStream
from moshi_mlx.hub import NANO
from moshi_mlx.lm.generator import LmGenerator
from moshi_mlx.session.codec_beside import CodecBeside
from moshi_mlx.session.one_graph import OneGraph
from moshi_mlx.session.path import FramePath
from tests.support.fakes.doctor_machines import M2_AIR

GIB = 2**30
LOST_IN_HALVES = 0.3  # where MLX's CPU backend adds 2,048 products of quantized weights
PAGE_BYTES = 16_384  # of an Apple GPU's memory
FEW = {"frames": 8, "settling": 2}  # half of the frames before the ring's wrap
compiling = pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler that works")
WAYS = [
    pytest.param(False, id="as on a CPU"),
    pytest.param(True, id="as on a GPU", marks=compiling),
]


@cache
def site(on_gpu: bool) -> Site:
    """This CPU, with what is done on a GPU alone or without it."""
    return replace(Site.here(), on_gpu=on_gpu)


@compiling
@pytest.mark.parametrize(("on_gpu", "frames"), [(False, 12), (True, None)], ids=["CPU", "GPU"])
def test_no_frame_builds_a_graph_after_warm_up(on_gpu: bool, frames: int | None) -> None:
    """The language model is the same one in both ways: it wraps once, beside a compiled codec."""
    result = examine(WarmUpCheck(frames=frames), site(on_gpu))
    assert result.status == OK, result
    assert "slowest frame" in result.notes[0]


@compiling
def test_a_frame_that_compiles_late_is_found() -> None:
    result = examine(WarmUpCheck(warm=lambda session: None, frames=4), site(False))
    assert result.status == OFF
    assert result.worst is not None and "language model" in result.worst.what


def test_without_a_compiler_there_is_nothing_to_warm_up() -> None:
    result = examine(WarmUpCheck(), replace(site(False), compiles=False))
    assert result.status == NOT_HERE and "compiler" in result.why


class Looks:
    """A stream whose codes are looked at before the language model has them."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def arrays(self) -> list[mx.array]:
        return self._inner.arrays

    def encode_lazy(self, frame: mx.array) -> mx.array:
        codes = self._inner.encode_lazy(frame)
        np.array(codes)  # the second wait
        return codes

    def decode_lazy(self, codes: mx.array) -> mx.array:
        return self._inner.decode_lazy(codes)


class Forgets(Looks):
    """A stream whose state is left out of the frame's evaluation."""

    @property
    def arrays(self) -> list[mx.array]:
        return []

    def encode_lazy(self, frame: mx.array) -> mx.array:
        return self._inner.encode_lazy(frame)


def with_stream(kind: Callable[[Any], Any]) -> Callable[..., FramePath]:
    def make(generator: LmGenerator, stream: CodecStream, user_q: int) -> FramePath:
        return OneGraph(generator, kind(stream.graph), user_q)

    return make


@pytest.mark.parametrize("on_gpu", WAYS)
def test_a_frame_waits_once(on_gpu: bool) -> None:
    result = examine(WaitCheck(), site(on_gpu))
    assert result.status == OK, result
    assert result.worst is not None and result.worst.off == 1.0


@pytest.mark.parametrize(
    ("make_path", "waits"), [(CodecBeside, 3.0), (with_stream(Looks), 2.0)], ids=["apart", "looks"]
)
def test_a_second_wait_is_found(make_path: Callable[..., FramePath], waits: float) -> None:
    result = examine(WaitCheck(make_path=make_path), site(False))
    assert result.status == OFF
    assert result.worst is not None and result.worst.off == waits


def test_pending_tells_what_is_lazy() -> None:
    x = mx.ones(3) + 1
    assert pending([x]) > 0
    mx.eval(x)
    assert pending([x]) == 0


@pytest.mark.parametrize("on_gpu", WAYS)
def test_memory_of_a_talk_is_flat(on_gpu: bool) -> None:
    grown, within = InPlaceCheck(**FEW).check(site(on_gpu))
    assert grown.ok and grown.off < 0.05, grown
    assert within.ok and within.share < 0.3, within


def test_a_copy_of_a_ring_is_found() -> None:
    result = examine(InPlaceCheck(held=lambda buffers: buffers.arrays(), **FEW), site(False))
    assert result.status == OFF
    assert result.worst is not None and "within a frame" in result.worst.what


@compiling
@pytest.mark.parametrize(
    ("part", "gpus_alone"),
    [
        (RecipeCheck("q4"), {"steps of a model, bf16, text", "fp16, groups of 32, [8, 2048] x"}),
        (CompiledCheck(), {"bf16, text", "bf16, codes"}),
    ],
    ids=["a recipe", "compiled"],
)
def test_a_gpu_is_asked_for_halves_as_well(part: Part, gpus_alone: set[str]) -> None:
    """A CPU only emulates them; there the same is within what its own sums in halves lose."""
    asked = {}
    for on_gpu in (False, True):
        found = [d for d in part.check(site(on_gpu)) if isinstance(d, Deviation)]
        asked[on_gpu] = {deviation.what for deviation in found}
        assert all(d.off <= max(d.allowed, LOST_IN_HALVES) for d in found)
    more = asked[True] - asked[False]
    assert all(any(what.startswith(one) for what in more) for one in gpus_alone)
    assert asked[False] < asked[True]


def test_a_ring_is_far_more_than_what_a_frame_may_hold_on_metal() -> None:
    """All that a frame's kernels write at once, in whole pages: no copy of a ring hides in it."""
    lm = RIGHT.lm({**probe.SMALL_TALKER, "context": RING}, mx.bfloat16)
    written = [
        (shape, getattr(mx, kind.replace("bool", "bool_")).size)
        for node in frame_of(lm).nodes(RING - 1)
        if not is_view(node.name) and node.name not in UPDATES
        for shape, kind in node.outputs
    ]
    pages = sum(-(-math.prod(shape) * size // PAGE_BYTES) for shape, size in written)
    rings = lm.new_buffers()
    half = rings.nbytes() / len(rings.rings) / 2
    assert len(written) > 100 and 3 * pages * PAGE_BYTES < half


def test_memory_that_grows_is_found() -> None:
    kept: list[mx.array] = []

    def keep(buffers: Any) -> list[mx.array]:
        kept.append(mx.zeros(80_000) + len(kept))
        mx.eval(kept[-1])
        return []

    result = examine(InPlaceCheck(held=keep, **FEW), site(False))
    assert result.status == OFF


@dataclass
class MetalLimits:
    """MLX's two setters as they are on Metal."""

    wired: int = 0
    cache: int = 18 * GIB

    def set_wired_limit(self, limit: int) -> int:
        self.wired, before = limit, self.wired
        return before

    def set_cache_limit(self, limit: int) -> int:
        self.cache, before = limit, self.cache
        return before


class DeafLimits(MetalLimits):
    """One that never wires anything."""

    def set_wired_limit(self, limit: int) -> int:
        return 0


def mac() -> dict[str, Any]:
    return {"memory_size": 16 * GIB, "max_recommended_working_set_size": 12 * GIB}


def test_limits_are_set_and_undone() -> None:
    setters = MetalLimits()
    assert examine(LimitCheck(info=mac, setters=setters), site(True)).status == OK
    assert setters == MetalLimits()


def test_limits_that_the_program_set_itself_stay() -> None:
    setters = MetalLimits(wired=3 * GIB, cache=GIB)
    assert examine(LimitCheck(info=mac, setters=setters), site(True)).status == OK
    assert setters == MetalLimits(wired=3 * GIB, cache=GIB)


@pytest.mark.parametrize(
    ("check", "what"),
    [
        (LimitCheck(info=mac, setters=MetalLimits(), undo=lambda before, setters: None), "undone"),
        (LimitCheck(info=mac, setters=DeafLimits()), "wired"),
    ],
    ids=["not undone", "not set"],
)
def test_limits_that_are_not_set_or_not_undone_are_found(check: LimitCheck, what: str) -> None:
    result = examine(check, site(True))
    assert result.status == OFF
    assert result.worst is not None and what in result.worst.what


def test_where_there_is_no_metal_limits_are_not_looked_at() -> None:
    assert examine(LimitCheck(info=lambda: None), site(False)).status == NOT_HERE


FAST = Speed(layer_ms=1.6, slice_ms=0.6, rest_ms=1.0, codec_ms=6.0, frames=120)  # 80 GB/s
SLOW = replace(FAST, layer_ms=16.0)


def speed(measured: Speed | None, **facts: Any) -> SpeedCheck:
    return SpeedCheck(
        measure=lambda: measured,
        gather=lambda *a, **k: replace(M2_AIR, **facts),
        bandwidth=lambda facts: Bandwidth(100.0, "Apple's figure for M2"),
    )


def test_a_gpu_near_its_memorys_speed_is_ok_and_told() -> None:
    result = examine(speed(FAST), site(True))
    assert result.status == OK
    assert result.notes[0].startswith("80 of 100 GB/s (Apple's figure for M2); a frame of the 7B")


def test_what_slows_a_mac_down_stands_beside_its_speed() -> None:
    result = examine(speed(FAST, power=Power(low_power_mode=True)), site(True))
    assert result.notes[1].startswith("Low Power Mode is on")


class Idling:
    """A model whose GPU lets go of it after a second, on a virtual clock."""

    def __init__(self, forgets: bool = True, keeps: bool = True) -> None:
        self.now = self.used = 0.0
        self.forgets, self.keeps = forgets, keeps

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def keep_warm(self) -> None:
        self.used = self.now if self.keeps else self.used

    def step(self) -> None:
        cold = self.forgets and self.now - self.used > 1.0
        self.now += 0.050 if cold else 0.010
        self.used = self.now

    def check(self, **facts: Any) -> PauseCheck:
        return PauseCheck(
            lambda: (self.step, self.keep_warm),
            lambda *a, **k: replace(M2_AIR, memory_free_bytes=8 * 10**9, **facts),
            lambda: self.now,
            self.sleep,
        )


def test_a_pause_costs_nothing_where_the_model_is_kept_warm() -> None:
    result = examine(Idling().check(), site(True))
    assert result.status == OK and result.worst is not None and result.worst.off < 1.1
    assert "at a talk's pace 10.0 ms, p95 10.0" in result.notes
    assert "after 10 s 1.0 times; not kept warm 5.0" in result.notes


def test_a_gpu_that_forgets_all_the_same_is_found() -> None:
    result = examine(Idling(keeps=False).check(), site(True))
    assert result.status == OFF and result.worst is not None and result.worst.unit == "times"
    assert examine(Idling().check(), site(False)).status == NOT_HERE


def test_a_model_that_is_made_up_steps_and_is_kept_warm() -> None:
    step, keep_warm = steps_of(shape_config(str(NANO)), "bf16")
    for call in (step, keep_warm, step):
        call()


@pytest.mark.parametrize(
    ("check", "on_gpu", "status"),
    [
        (speed(SLOW), True, OFF),
        (speed(FAST), False, NOT_HERE),
        (speed(None), True, NOT_HERE),
        (speed(FAST, memory_free_bytes=10**9), True, NOT_HERE),
        (SpeedCheck(gather=lambda *a, **k: 1 / 0), True, FAILED),  # type: ignore[arg-type]
    ],
    ids=["slow", "no GPU", "too slow to tell", "no memory", "broken"],
)
def test_speed_otherwise(check: SpeedCheck, on_gpu: bool, status: str) -> None:
    assert examine(check, site(on_gpu)).status == status
