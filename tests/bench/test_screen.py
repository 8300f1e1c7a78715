"""The screen of `moshi bench` on machines that aren't here: it fits, and its advice is right."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from app.bench import document, screen
from app.bench.document import Bench
from app.bench.floor import Bandwidth, Floor
from app.bench.measure import Run
from app.bench.runner import Memory, Plan
from app.bench.split import Split
from app.bench.stats import FrameTime, RunTimes, TimerCheck
from app.bench.subject import Subject
from app.commands import bench
from tests.support.fakes.doctor_machines import ALL, LINUX, M4_MAX


def made_up(recipe: str, p50: float, floor_ms: float, extra: float = 3.0) -> Run:
    """A run of the 7B as a Mac might give it: a picture of the screen, not a measurement."""
    stages = {"encode": 5.0, "lm": p50 - 12.0, "decode": 6.5, "host": 0.5}
    frames = [
        FrameTime(i * 0.08, p50 + (i % 7) * 0.4, stages if i % 2 else None) for i in range(200)
    ]
    return Run(
        Subject("moshi-7b", recipe, True, lambda: pytest.fail("built")),
        RunTimes(frames),
        Floor(int(floor_ms * 1e8), 0, 110, floor_ms),
        Memory(5 * 10**9, 6 * 10**9, 10**9),
        load_s=3.1,
        warm_up_s=1.2,
        codec="mlx",
        dtype="bfloat16",
        timer=TimerCheck(p50, p50, p50, 0.004),
        split=Split((p50 - 12) * 0.7, (p50 - 12) * 0.33, p50 - 12),
        context_ms={0: p50 - 12, 3000: p50 - 12 + extra},
    )


@pytest.mark.parametrize("name", ALL)
def test_the_screen_fits_80_columns_on_every_machine(name):
    runs = [made_up("q4", 41.0, 11.0), made_up("q8", 69.0, 19.5), made_up("bf16", 130.0, 60.0)]
    bench = Bench(ALL[name], Plan(), Bandwidth(400.0, "Apple's figure for M1 Max"), runs)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    screen.show(bench, console)
    text = console.export_text()
    for run in runs:
        assert str(run.verdict) in text
    assert "q4: yes, 34 ms of headroom" in text and "bf16: no, 54 ms too slow" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "fewer bits" in text
    json.dumps(document.document(bench))


def test_full_context_counts_in_the_verdict():
    """A frame that keeps up at first and not after four minutes is no yes."""
    assert made_up("q4", 68.0, 30.0, extra=0.0).verdict.answer == "yes"
    assert made_up("q4", 68.0, 30.0, extra=20.0).verdict.answer == "no"


def test_the_default_is_the_7b_on_a_gpu_and_nano_elsewhere(capsys):
    import argparse

    parser = argparse.ArgumentParser()
    bench.configure(parser)
    gpu = bench.subjects_from(parser.parse_args([]), M4_MAX)
    assert [(s.model, s.recipe, s.random) for s in gpu] == [("moshi-7b", "q4", True)]
    cpu = bench.subjects_from(parser.parse_args([]), LINUX)
    assert [(s.model, s.random) for s in cpu] == [("nano", False)]
    assert "--random-weights" in capsys.readouterr().err
    several = parser.parse_args(["--recipes", "q4, q6,q8,bf16"])
    roomy = replace(M4_MAX, memory_bytes=64 * 2**30)
    assert [s.recipe for s in bench.subjects_from(several, roomy)] == ["q4", "q6", "q8", "bf16"]


@pytest.mark.parametrize(
    ("p50", "floor_ms", "slow_ms", "says"),
    [
        (90.0, 85.0, 0.0, "too slow for so many bytes"),
        (95.0, 5.0, 0.0, "the overhead alone"),
        (95.0, 60.0, 0.0, "fewer bits"),
        (40.0, 5.0, 60.0, "close other programs"),
    ],
)
def test_the_advice_follows_from_where_the_time_goes(p50, floor_ms, slow_ms, says):
    run = made_up("q4", p50, floor_ms)
    run.recording.frames += [FrameTime(0.0, p50 + slow_ms)] * (20 if slow_ms else 0)
    assert run.verdict.answer != "yes" and says in screen.advice(run)
