"""`moshi bench` as people run it: a conversation on nano, its reports, and their comparison."""

import io
import json
import re
import time
from pathlib import Path
from typing import Any, cast

import pytest

from app import cli
from app.bench import runner
from app.bench.kinds import Converses
from app.bench.runner import Plan
from moshi_mlx.moshi import Moshi
from tests.support.models.bench_shapes import small_shape
from tests.support.models.loaded import nano as shared_nano
from tests.support.processes.bench_process import ROOT, assert_one_line, moshi

FRAMES = 12


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One run with every report: (document, folder, stdout)."""
    folder = tmp_path_factory.mktemp("bench")
    shape = small_shape(folder / "shape")
    process = moshi(
        *("bench", "--random-weights", str(shape), "--recipes", "fp32,q8", "--context-sweep"),
        *("--command-buffers", "1000,400"),
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
    assert document["command_buffers"] == {"operations": 1000, "megabytes": 400}
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


def test_what_a_run_holds_at_most_was_foretold(bench):
    """With the closer looks, the sweep and the trace."""
    for run in bench[0]["runs"]:
        memory = run["memory"]
        assert memory["expected_peak_bytes"] == pytest.approx(memory["peak_bytes"], rel=0.03)


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
        if name == "graph":
            return Slowed(found, **self.calls_ms)
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
    nano = shared_nano()
    slow = Moshi(
        cast(Any, Slowed(nano.lm, step=60, submit=60)),
        cast(Any, Slowed(nano.codec, encode=30, encode_lazy=30, decode=15, decode_lazy=15)),
        nano.tokenizer,
        nano.folder,
    )
    plain, slowed = (
        runner.run(Converses(model), Plan(frames=8), warm_frames=4) for model in (nano, slow)
    )
    for stage, added in {"encode": 30, "lm": 60, "decode": 15}.items():
        assert min(slowed.stage_ms(stage)) >= added
    assert min(slowed.of(False)) >= 105 and min(slowed.of(True)) >= 105
    assert min(slowed.stage_ms("host")) < 15
    assert min(plain.stage_ms("lm")) < min(slowed.stage_ms("lm"))


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
    assert "command buffers of up to 1000 operations, 400 MB: no difference on cpu" in bench[2]
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
    slower["command_buffers"] = {"operations": None, "megabytes": None}
    slower["runs"][1]["split_ms"] = None  # as an interrupted run leaves it
    (tmp_path / "b.json").write_text(json.dumps(slower))
    files = [str(folder / "a.json"), str(tmp_path / "b.json")]
    assert cli.main(["bench", "compare", *files]) == 0
    out = capsys.readouterr().out
    assert "2.00 x" in out and "1.00 x" in out
    assert "A: command buffers of up to 1000 operations, 400 MB; B: command buffers as" in out
    ratios = json.loads(out.splitlines()[-1])["ratios"]
    assert [r["frame p50"] for r in ratios.values()] == [2.0, 2.0]
    assert ["depth" in r for r in ratios.values()] == [True, False]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't be read"),
        ("{broken", "can't be read as JSON"),
        ("[]", "one JSON object"),
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_no_document_follows_the_screen(bench, monkeypatch):
    """Where stdout is piped its last line is one, as the tests above read it."""
    for terminal, follows in ((Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr("sys.stdout", terminal)
        assert cli.main(["bench", "compare", *[str(bench[1] / "a.json")] * 2]) == 0
        assert terminal.getvalue().rstrip().endswith("}") is follows
