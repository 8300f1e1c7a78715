"""`moshi bench` as people run it: a real conversation on nano, its reports, and every bad input."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from bench_shapes import small_shape
from doctor_machines import ALL, LINUX, M1_8GB, M4_MAX, ROSETTA, VM_WITHOUT_METAL
from rich.console import Console

from app import (
    bench_document,
    bench_runner,
    bench_screen,
    bench_subject,
    cli,
    cli_bench,
    platform_facts,
)
from app.bench_document import Bench
from app.bench_floor import Bandwidth, Floor
from app.bench_measure import Run
from app.bench_runner import Memory, Plan
from app.bench_split import Split
from app.bench_stats import Frame, Recording, TimerCheck
from app.bench_subject import Subject
from moshi_mlx.moshi import Moshi, load

ROOT = Path(__file__).parents[1]
FRAMES = 30


def moshi(*argv: str, **options) -> subprocess.Popen:
    """The command in a process of its own, as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One run with every report: (document, folder, stdout)."""
    folder = tmp_path_factory.mktemp("bench")
    shape = small_shape(folder / "shape")
    process = moshi(
        *("bench", "--random-weights", str(shape), "--recipes", "fp32,q8", "--context-sweep"),
        *("--frames", str(FRAMES), "--json", str(folder / "a.json")),
        *("--html", str(folder / "a.html"), "--trace", str(folder / "a.trace")),
    )
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return json.loads((folder / "a.json").read_text()), folder, out


def test_the_document_has_what_its_schema_promises(bench):
    document, _, _ = bench
    assert (document["schema"], document["schema_version"]) == ("moshi-bench", 1)
    assert document["machine"]["backend"] in ("cpu", "cuda", "metal")
    assert document["bandwidth"]["gb_s"] > 0 and not document["interrupted"]
    assert [run["recipe"] for run in document["runs"]] == ["fp32", "q8"]
    for run in document["runs"]:
        assert run["frame_ms"]["count"] == FRAMES == len(run["series"]["frame_ms"])
        assert sorted(run["series"]["frame_ms"])[-1] == pytest.approx(run["frame_ms"]["max"], 1e-3)
        assert run["load_s"] > 0 and run["warm_up_s"] > 0
        assert set(run["context_ms"]) == {"0", "64", "128", "256"}
        memory = run["memory"]
        assert memory["peak_bytes"] >= memory["active_bytes"] >= run["floor"]["weights_bytes"]
        rate = document["bandwidth"]["gb_s"]
        floor = run["floor"]
        assert floor["ms"] == pytest.approx(
            (floor["weights_bytes"] + floor["kv_bytes"]) / rate / 1e6
        )
        assert floor["ms"] + floor["overhead_ms"] == pytest.approx(run["frame_ms"]["p50"])
        assert run["response_latency_ms"] == pytest.approx(220 + run["frame_ms"]["p50"])
        assert run["verdict"]["text"].startswith(f"{run['recipe']}: {run['verdict']['answer']}")


def test_every_documented_field_is_there_and_no_other(bench):
    """docs/bench.md describes the document: its list of fields is compared with a real one."""
    document, _, _ = bench
    text = (ROOT / "docs" / "bench.md").read_text()
    described = set(re.findall(r"^\| `([a-z0-9_.]+)`", text, re.MULTILINE))
    top = {name for name in document if name != "runs"}
    inner = {f"runs.{name}" for name in document["runs"][0]}
    assert described >= top | inner
    assert {name for name in described if name.count(".") == 0} - {"runs"} == top
    assert {name for name in described if name.startswith("runs.")} == inner


def test_the_parts_are_the_frame(bench):
    """The stages were taken on the true pipeline: the host keeps only what nobody else did."""
    for run in bench[0]["runs"]:
        stages = {stage: times["p50"] for stage, times in run["stages_ms"].items()}
        assert list(stages) == ["encode", "lm", "decode", "host"]
        assert all(ms > 0 for ms in stages.values())
        assert stages["host"] < 0.25 * sum(stages.values())
        timer = run["timer"]
        assert timer["cost_percent"] < 1
        typical = run["typical_ms"]
        assert list(typical) == list(stages) and min(typical.values()) > 0
        assert timer["sum_ms"] == pytest.approx(sum(typical.values()))


class Slowed:
    """A part of a model, some of whose calls take so many milliseconds more."""

    def __init__(self, inner, **calls_ms):
        self.inner, self.calls_ms = inner, calls_ms

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if name in ("generator", "stream"):
            return lambda *args, **options: Slowed(found(*args, **options), **self.calls_ms)
        if name not in self.calls_ms:
            return found

        def slow(*args):
            time.sleep(self.calls_ms[name] / 1000)
            return found(*args)

        return slow


def test_time_that_is_spent_in_a_part_is_charged_to_that_part():
    """Through the real session of nano, whose every part is made slower by a known time."""
    nano = load("nano", codec="mlx")
    slow = Moshi(
        cast(Any, Slowed(nano.lm, step=60, submit=60)),
        cast(Any, Slowed(nano.codec, encode=30, encode_lazy=30, decode=15, decode_lazy=15)),
        nano.tokenizer,
        nano.folder,
    )
    plain, slowed = (
        bench_runner.run(model, Plan(frames=8), warm_frames=4) for model in (nano, slow)
    )
    for stage, added in {"encode": 30, "lm": 60, "decode": 15}.items():
        assert min(slowed.stage_ms(stage)) >= added
    assert min(slowed.of(False)) >= 105 and min(slowed.of(True)) >= 105
    assert min(slowed.stage_ms("host")) < 15 and min(plain.stage_ms("lm")) < 60


def test_no_name_and_no_path_leaves_the_machine(bench):
    document, folder, out = bench
    page = (folder / "a.html").read_text()
    for text in (json.dumps(document), page, out):
        assert str(folder) not in text and str(Path.home()) + "/" not in text


def test_the_last_line_is_one_json_document(bench):
    document, _, out = bench
    summary = json.loads(out.splitlines()[-1])
    assert summary["schema"] == "moshi-bench-summary" and summary["schema_version"] == 1
    for short, run in zip(summary["runs"], document["runs"], strict=True):
        assert short["p50_ms"] == pytest.approx(run["frame_ms"]["p50"], abs=1e-3)
        assert short["answer"] == run["verdict"]["answer"]


def test_the_screen_says_frame_floor_overhead_and_verdict(bench):
    document, _, out = bench
    for run in document["runs"]:
        frame, floor = run["frame_ms"]["p50"], run["floor"]
        assert run["verdict"]["text"] in out
        assert f"{frame:.1f} ms, floor {floor['ms']:.1f} ms, overhead" in out
    assert "█" in out and "temporal" in out and "peak" in out


def test_the_page_stands_alone_and_shows_every_run(bench):
    document, folder, _ = bench
    page = (folder / "a.html").read_text()
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|<script", page)
    for run in document["runs"]:
        assert f"<h2>{run['recipe']}</h2>" in page and run["verdict"]["text"] in page
    assert page.count("<circle") == 2 * FRAMES  # the timelines
    counted = re.findall(r": (\d+) frames</title>", page)
    assert sum(map(int, counted)) == 2 * FRAMES  # the histograms


def test_the_trace_nests_the_stages_in_their_frames(bench):
    events = json.loads((bench[1] / "a.trace").read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["name"] == "process_name"} == {
        *("moshi bench, fp32", "moshi bench, q8")
    }
    for process in (1, 2):
        spans = [e for e in events if e["ph"] == "X" and e["pid"] == process]
        frames = [e for e in spans if e["name"] == "frame"]
        assert [e["args"]["frame"] for e in frames] == list(range(FRAMES))
        assert {e["name"] for e in spans} == {"frame", "encode", "lm", "decode"}
        for span in spans:
            end = span["ts"] + span["dur"] - 0.01
            assert any(f["ts"] <= span["ts"] and end <= f["ts"] + f["dur"] for f in frames)


# --- compare -----------------------------------------------------------------------------------


def test_compare_prints_the_ratios(bench, tmp_path, capsys):
    document, folder, _ = bench
    slower = json.loads(json.dumps(document))
    for run in slower["runs"]:
        run["frame_ms"]["p50"] *= 2
    slower["runs"][1]["split_ms"] = None  # as an interrupted run leaves it
    (tmp_path / "b.json").write_text(json.dumps(slower))
    files = [str(folder / "a.json"), str(tmp_path / "b.json")]
    assert cli.main(["bench", "compare", *files]) == 0
    out = capsys.readouterr().out
    assert "2.00 x" in out and "1.00 x" in out
    ratios = json.loads(out.splitlines()[-1])["ratios"]
    assert [r["frame p50"] for r in ratios.values()] == [2.0, 2.0]
    assert ["depth" in r for r in ratios.values()] == [True, False]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't be read"),
        ("{broken", "no JSON"),
        ("[]", "no report"),
        ('{"schema": "moshi-doctor", "schema_version": 1}', "no report"),
        ('{"schema": "moshi-bench", "schema_version": 99, "runs": [{}]}', "schema version 99"),
        ('{"schema": "moshi-bench", "schema_version": 1, "runs": []}', "holds no run"),
        ('{"schema": "moshi-bench", "schema_version": 1, "runs": [{}]}', "damaged"),
        (
            '{"schema": "moshi-bench", "schema_version": 1,'
            ' "runs": [{"model": "a", "recipe": "b"}]}',
            "no model in common",
        ),
    ],
)
def test_compare_refuses_what_is_no_report(bench, tmp_path, capsys, content, says):
    other = tmp_path / "b.json"
    if content is not None:
        other.write_text(content)
    assert_one_line(["bench", "compare", str(bench[1] / "a.json"), str(other)], says, capsys)


# --- bad input ---------------------------------------------------------------------------------


def assert_one_line(argv: list[str], says: str, capsys) -> None:
    assert cli.main(argv) == 1
    out, errors = capsys.readouterr()
    assert out == "" and len(errors.strip().splitlines()) == 1
    assert errors.startswith("error: ") and says in errors


@pytest.fixture
def no_work(monkeypatch):
    """Whatever is measured from here on is a mistake."""
    monkeypatch.setattr(cli_bench, "measure_all", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(platform_facts, "gather", lambda *_, **__: M4_MAX)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--random-weights", "moshi-8b"], "moshi-7b"),
        (["--random-weights", "stt-1b"], "doesn't speak"),
        (["--random-weights", "moshi-7b", "--recipe", "q7"], "known: q3, q4"),
        (["--recipes", "q4,q9"], "unknown recipe 'q9'"),
        (["--recipe", "q4", "--recipes", "q8"], "not both"),
        (["--model", "nano", "--random-weights", "nano"], "not both"),
        (["--model", "nano", "--recipe", "q4"], "own precision"),
        (["--codec", "rust"], "needs a --model"),
        (["--bits", "8", "--random-weights", "nano"], "not both"),
        (["--chip", "M99 Hyper"], "unknown chip"),
        (["--frames", "1"], "2 or more"),
        (["--minutes", "-3"], "more than 0"),
        (["--minutes", "nan"], "more than 0"),
        (["--metal-capture", "a.gputrace"], "Metal"),
        (["--model", "no/such/folder/anywhere", "--offline"], "no/such"),
    ],
)
def test_bad_options_are_one_line(argv, says, capsys, no_work, monkeypatch):
    if argv[0] == "--model" and "--offline" in argv:
        monkeypatch.undo()  # this one fails while loading
    assert_one_line(["bench", *argv], says, capsys)


@pytest.mark.parametrize("option", ["--json", "--html", "--trace"])
@pytest.mark.parametrize("place", ["missing/report", "."])
def test_an_unwritable_report_is_refused_before_the_run(option, place, tmp_path, capsys, no_work):
    before = list(tmp_path.iterdir())
    assert cli.main(["bench", option, str(tmp_path / place)]) == 1
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1 and str(tmp_path) in errors
    assert list(tmp_path.iterdir()) == before


def test_a_model_that_does_not_fit_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(platform_facts, "gather", lambda *_, **__: M1_8GB)
    monkeypatch.setattr(bench_subject, "random_lm", lambda *_: pytest.fail("allocated"))
    assert_one_line(["bench"], "q4 needs 7.5 GB of memory and this machine can give 6.0", capsys)


@pytest.mark.parametrize("facts", [ROSETTA, VM_WITHOUT_METAL])
def test_where_mlx_does_not_start_the_doctor_is_named(facts, capsys, monkeypatch):
    monkeypatch.setattr(platform_facts, "gather", lambda *_, **__: facts)
    assert_one_line(["bench"], "moshi doctor", capsys)


# --- interrupted -------------------------------------------------------------------------------


def test_ctrl_c_prints_what_there_is(tmp_path):
    """A run of a minute, stopped by the signal that Ctrl-C sends once frames were timed."""
    report = tmp_path / "a.json"
    process = moshi("bench", "--model", "nano", "--minutes", "1", "--json", str(report))
    assert process.stderr is not None
    while "frames" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    document = json.loads(report.read_text())
    assert document["interrupted"] and document["runs"][0]["interrupted"]
    assert 0 < document["runs"][0]["frame_ms"]["count"] < 750
    assert "Interrupted" in out and json.loads(out.splitlines()[-1])["interrupted"]


def test_ctrl_c_before_the_first_frame_says_so(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(platform_facts, "gather", lambda *_, **__: LINUX)
    monkeypatch.setattr(cli_bench, "measure", interrupted)
    report = tmp_path / "a.json"
    assert cli.main(["bench", "--model", "nano", "--chip", "M2", "--json", str(report)]) == 1
    out, errors = capsys.readouterr()
    assert out == "" and "nothing was measured" in errors and not report.exists()


# --- screens of machines that aren't here ------------------------------------------------------


def made_up(recipe: str, p50: float, floor_ms: float, extra: float = 3.0) -> Run:
    """A run of the 7B as a Mac might give it: a picture of the screen, not a measurement."""
    stages = {"encode": 5.0, "lm": p50 - 12.0, "decode": 6.5, "host": 0.5}
    frames = [Frame(i * 0.08, p50 + (i % 7) * 0.4, stages if i % 2 else None) for i in range(200)]
    return Run(
        Subject("moshi-7b", recipe, True, lambda: pytest.fail("built")),
        Recording(frames),
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
    bench_screen.show(bench, console)
    text = console.export_text()
    for run in runs:
        assert str(run.verdict) in text
    assert "q4: yes, 34 ms of headroom" in text and "bf16: no, 54 ms too slow" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "fewer bits" in text
    json.dumps(bench_document.document(bench))


def test_full_context_counts_in_the_verdict():
    """A frame that keeps up at first and not after four minutes is no yes."""
    assert made_up("q4", 68.0, 30.0, extra=0.0).verdict.answer == "yes"
    assert made_up("q4", 68.0, 30.0, extra=20.0).verdict.answer == "no"


def test_the_default_is_the_7b_on_a_gpu_and_nano_elsewhere(capsys):
    import argparse

    parser = argparse.ArgumentParser()
    cli_bench.configure(parser)
    gpu = cli_bench.subjects_from(parser.parse_args([]), M4_MAX)
    assert [(s.model, s.recipe, s.random) for s in gpu] == [("moshi-7b", "q4", True)]
    cpu = cli_bench.subjects_from(parser.parse_args([]), LINUX)
    assert [(s.model, s.random) for s in cpu] == [("nano", False)]
    assert "--random-weights" in capsys.readouterr().err
    several = parser.parse_args(["--recipes", "q4, q6,q8,bf16"])
    roomy = replace(M4_MAX, memory_bytes=64 * 2**30)
    assert [s.recipe for s in cli_bench.subjects_from(several, roomy)] == ["q4", "q6", "q8", "bf16"]


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
    run.recording.frames += [Frame(0.0, p50 + slow_ms)] * (20 if slow_ms else 0)
    assert run.verdict.answer != "yes" and says in bench_screen.advice(run)
