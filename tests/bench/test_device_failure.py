"""A GPU that gives up, out of memory or reset: what was measured is reported, the others go on."""

import numpy as np
import pytest

from app.bench import document
from app.bench.document import Bench
from app.bench.floor import Bandwidth
from app.bench.kinds import Converses
from app.bench.measure import Options
from app.bench.runner import WARM_FRAMES, Plan, run
from app.bench.subject import Subject
from app.commands.bench import exit_status, measure_all
from tests.support.fakes.cpu_codec import CpuCodec, CpuStream, moshi_with
from tests.support.fakes.doctor_machines import LINUX

OUT_OF_MEMORY = (
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)
FRAMES = 8


class GivesUp(CpuCodec):
    """Runs out of memory at a frame."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def stream(self) -> "GivingUp":
        return GivingUp(self, self.at)


class GivingUp(CpuStream):
    def __init__(self, codec: CpuCodec, at: int) -> None:
        super().__init__(codec)
        self.left = at

    def encode(self, frame: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError(f"{OUT_OF_MEMORY}\nand more")
        return super().encode(frame)


def failing_build() -> Converses:
    raise RuntimeError(OUT_OF_MEMORY)


def bench_of(*subjects: Subject) -> Bench:
    plan = Plan(FRAMES)
    empty = Bench(LINUX, plan, Bandwidth(10.0, "as given"), [])
    return measure_all(empty, list(subjects), Options(plan, lm_frames=2))


def well() -> Subject:
    return Subject("well", "", True, lambda: Converses(moshi_with(CpuCodec())))


@pytest.mark.parametrize("at", [0, 5])
def test_one_that_never_makes_a_frame_is_a_line_and_the_others_are_measured(at: int) -> None:
    before = Subject("big", "q8", True, failing_build)
    within = Subject("large", "q6", True, lambda: Converses(moshi_with(GivesUp(at))))
    bench = bench_of(before, within, well())
    assert [run.subject.model for run in bench.runs] == ["well"]
    assert [line.partition(":")[0] for line in bench.failures] == ["big q8", "large q6"]
    for line in bench.failures:
        assert "OutOfMemory" in line and "\n" not in line and "--kv-bits 8" in line
    assert bench.runs[0].context_ms and not bench.interrupted
    assert exit_status(bench) == 1


def test_what_was_measured_until_then_is_reported() -> None:
    part = Subject("large", "q6", True, lambda: Converses(moshi_with(GivesUp(WARM_FRAMES + 4))))
    bench = bench_of(part, well())
    first, second = bench.runs
    assert 0 < len(first.recording.frames) < FRAMES
    assert first.recording.failure == OUT_OF_MEMORY and first.split is None
    assert second.recording.failure is None and len(second.recording.frames) == FRAMES
    found = document.document(bench)
    assert found["runs"][0]["failure"] == OUT_OF_MEMORY and len(found["failures"]) == 1
    assert exit_status(bench) == 1


class TiredCodec(CpuCodec):
    """Runs out of memory after so many frames of all its streams."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def stream(self) -> "TiredStream":
        return TiredStream(self)


class TiredStream(CpuStream):
    def __init__(self, codec: TiredCodec) -> None:
        super().__init__(codec)
        self.tired = codec

    def encode(self, frame: np.ndarray) -> np.ndarray:
        self.tired.left -= 1
        if self.tired.left < 0:
            raise RuntimeError(OUT_OF_MEMORY)
        return super().encode(frame)


def frames_encoded() -> int:
    """By all streams until the frames of a run are over: what stands in for the device counts."""
    codec = TiredCodec(10**6)
    model = Converses(moshi_with(codec))
    model.warm_up()
    run(model, Plan(FRAMES))
    return 10**6 - codec.left


def test_a_closer_look_that_fails_leaves_what_was_measured() -> None:
    at = frames_encoded() + 3  # within those at the pace of a talk
    bench = bench_of(
        Subject("large", "q6", True, lambda: Converses(moshi_with(TiredCodec(at)))), well()
    )
    first, second = bench.runs
    assert len(first.recording.frames) == FRAMES and first.recording.failure == OUT_OF_MEMORY
    assert first.split is None and second.split is not None
    assert len(bench.failures) == 1 and exit_status(bench) == 1


def test_all_well_is_0() -> None:
    bench = bench_of(well())
    assert bench.failures == () and exit_status(bench) == 0
