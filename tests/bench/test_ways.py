"""What only a GPU does in `moshi bench`, run both ways on the CPU; and that the report tells it."""

import io
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from rich.console import Console

from app.bench import compare, document, html, screen, trace
from app.bench.document import Bench
from app.bench.floor import Bandwidth
from app.bench.kinds import Converses, Measured
from app.bench.measure import Options, Run, measure
from app.bench.runner import Plan
from app.bench.subject import from_random
from app.commands import bench
from moshi_mlx.backend.command_buffers import CommandBuffers
from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.backend.residual_norm import ResidualNorm, composed, taking
from moshi_mlx.errors import MoshiError
from moshi_mlx.mimi import Mimi
from tests.support.fakes.commands import parsed
from tests.support.fakes.doctor_machines import CUDA, LINUX, M4_MAX
from tests.support.models.bench_shapes import small_shape

SHORT = Options(Plan(2), lm_frames=1)
MACHINES = [
    pytest.param(LINUX, id="cpu"),
    pytest.param(
        M4_MAX,
        id="metal",
        marks=pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler that works"),
    ),
]


@pytest.mark.parametrize("facts", MACHINES)
def test_made_up_models_are_as_on_their_device(facts, tmp_path: Path) -> None:
    """bf16 and a compiled codec on a GPU, float32 on a CPU; the peak is foretold of both."""
    gpu = facts is M4_MAX
    (subject,) = from_random(str(small_shape(tmp_path, context=3000)), ["q4"], facts)
    built: list[Measured] = []

    def build() -> Measured:
        built.append(subject.build())
        return built[-1]

    run = measure(replace(subject, build=build), SHORT, 10.0, lambda *_: None)
    (model,) = built
    assert isinstance(model, Converses) and isinstance(model.codec, Mimi)
    assert model.lm.dtype == (mx.bfloat16 if gpu else mx.float32)
    assert model.codec.compiled is gpu
    assert run.dtype == ("bfloat16" if gpu else "float32")
    assert run.memory.peak_bytes == pytest.approx(run.expected_bytes, rel=0.03)


class FakeMetal:
    """Metal's capture, on paper: what was asked of it."""

    def __init__(self, available: bool = True, error: Exception | None = None) -> None:
        self.available, self.error, self.said = available, error, []

    def is_available(self) -> bool:
        return self.available

    def start_capture(self, path: str) -> None:
        if self.error is not None:
            raise self.error
        self.said.append(path)

    def stop_capture(self) -> None:
        self.said.append("stop")


class Frames:
    """A model whose frames are written down, where Metal's calls are."""

    def __init__(self, metal: FakeMetal, fails_at: int = 99) -> None:
        self.metal, self.left = metal, fails_at

    @contextmanager
    def open(self, watch):
        yield self

    def step(self, pcm) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of memory")
        self.metal.said.append("frame")


def test_a_capture_is_of_three_frames_of_a_warm_model() -> None:
    metal = FakeMetal()
    trace.capture(Path("a.gputrace"), Frames(metal), metal)
    assert metal.said == ["frame", "frame", "a.gputrace", "frame", "frame", "frame", "stop"]


def test_a_capture_is_ended_where_a_frame_fails() -> None:
    metal = FakeMetal()
    with pytest.raises(RuntimeError, match="out of memory"):
        trace.capture(Path("a.gputrace"), Frames(metal, fails_at=3), metal)
    assert metal.said[-1] == "stop"


@pytest.mark.parametrize("error", [RuntimeError("no layer"), ValueError("no device")])
def test_metal_that_can_not_capture_is_one_line(error: Exception) -> None:
    metal = FakeMetal(error=error)
    with pytest.raises(MoshiError, match=r"a.gputrace: Metal can't capture \(no ") as caught:
        trace.capture(Path("a.gputrace"), Frames(metal), metal)
    assert "\n" not in str(caught.value) and "stop" not in metal.said


def test_a_capture_is_checked_before_the_run(tmp_path: Path) -> None:
    on, there = {"MTL_CAPTURE_ENABLED": "1"}, tmp_path / "there.gputrace"
    there.touch()
    trace.check_capture(tmp_path / "new.gputrace", FakeMetal(), on)
    for path, metal, environment, says in (
        (tmp_path / "new.gputrace", FakeMetal(available=False), on, "needs a Mac with Metal"),
        (tmp_path / "new.gputrace", FakeMetal(), {}, "MTL_CAPTURE_ENABLED=1 moshi bench"),
        (tmp_path / "new.trace", FakeMetal(), on, "must end in .gputrace"),
        (there, FakeMetal(), on, "doesn't overwrite it"),
    ):
        with pytest.raises(MoshiError, match=says):
            trace.check_capture(path, metal, environment)


# --- the report --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, composed], ids=["two kernels", "one kernel"])
def measured(request, tmp_path_factory) -> tuple[ResidualNorm | None, list[Run]]:
    """A run in 4 bit, whose additions a kernel may take over; and where there is one, another in
    float32, with none."""
    shape = str(small_shape(tmp_path_factory.mktemp("ways")))
    with taking(request.param):
        recipes = ["q4"] if request.param is None else ["q4", "fp32"]
        subjects = from_random(shape, recipes, LINUX)
        return request.param, [measure(s, SHORT, 10.0, lambda *_: None) for s in subjects]


def texts(bench: Bench) -> tuple[str, str, dict]:
    out = io.StringIO()
    screen.show(bench, Console(file=out, width=200))
    return out.getvalue(), html.page(bench), document.document(bench)


def test_every_report_tells_whether_additions_and_norms_were_one_kernel(measured) -> None:
    kernel, runs = measured
    shown, page, found = texts(Bench(LINUX, Plan(2), Bandwidth(10.0, "as given"), runs))
    expected = [False] if kernel is None else [True, False]
    assert [run["fused_norms"] for run in found["runs"]] == expected
    for text in (shown, page):
        assert text.count("addition and norm in one kernel") == (0 if kernel is None else 1)


@pytest.mark.parametrize(
    ("facts", "buffers", "compiled", "says"),
    [
        (M4_MAX, CommandBuffers(), True, ()),
        (M4_MAX, CommandBuffers(1000, 400), True, ("up to 1000 operations, 400 MB",)),
        (CUDA, CommandBuffers(7), True, ("up to 7 operations: no difference on cuda",)),
        (M4_MAX, CommandBuffers(), False, ("operation by operation: nothing was compiled",)),
    ],
)
def test_every_report_tells_how_mlx_was_told_to_work(
    facts, buffers, compiled, says, measured
) -> None:
    given = Bench(facts, Plan(2), Bandwidth(10.0, "as given"), measured[1], buffers, compiled)
    shown, page, found = texts(given)
    assert found["compiled"] is compiled
    assert found["command_buffers"] == {
        "operations": buffers.operations,
        "megabytes": buffers.megabytes,
    }
    for text in (shown, page):
        assert all(line in text for line in says)
        assert ("command buffers" in text) == (buffers != CommandBuffers())
        assert ("operation by operation" in text) is not compiled


@pytest.mark.parametrize("uncompiled", [False, True])
def test_the_command_fills_it_in(uncompiled: bool, tmp_path: Path, measured) -> None:
    report = tmp_path / "a.json"
    options = ["--uncompiled"] if uncompiled else []
    args = parsed(bench, "--model", "nano", "--json", str(report), "--chip", "M2", *options)
    try:
        bench.run(args, lambda *_, **__: LINUX, measure=lambda *_: measured[1][0])
    finally:
        if can_compile():
            mx.enable_compile()
    found = json.loads(report.read_text())
    assert found["compiled"] is (can_compile() and not uncompiled)


def test_two_ways_are_told_apart(measured, tmp_path: Path, capsys) -> None:
    runs = measured[1]
    plain = Bench(LINUX, Plan(2), Bandwidth(10.0, "as given"), runs)
    other = replace(plain, command_buffers=CommandBuffers(9), compiled=False)
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, given in zip(paths, (plain, other), strict=True):
        path.write_text(json.dumps(document.document(given)))
    fused = json.loads(paths[1].read_text())
    fused["runs"][0]["fused_norms"] = not fused["runs"][0]["fused_norms"]
    paths[1].write_text(json.dumps(fused))
    out = io.StringIO()
    compare.compare(*paths, Console(file=out, width=200))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("A: ")]
    assert (
        lines[0] == "A: command buffers as MLX has them; B: command buffers of up to 9 operations"
    )
    assert lines[1] == "A: compiled; B: operation by operation"
    assert lines[2].count("addition and norm in") == 2 and "one kernel" in lines[2]
    out = io.StringIO()
    compare.compare(paths[0], paths[0], Console(file=out, width=200))
    assert "A: " not in out.getvalue()
