"""`moshi bench` with every bad input, and interrupted: one line, nothing half-written."""

import json
import signal
import time

import pytest

from app import cli
from app.bench import subject
from app.commands import bench
from app.machine import facts as platform_facts
from tests.support.bench_process import assert_one_line, moshi
from tests.support.doctor_machines import LINUX, M1_8GB, M4_MAX, ROSETTA, VM_WITHOUT_METAL


@pytest.fixture
def no_work(monkeypatch):
    """Whatever is measured from here on is a mistake."""
    monkeypatch.setattr(bench, "measure_all", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(platform_facts, "gather", lambda *_, **__: M4_MAX)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--random-weights", "moshi-8b"], "moshi-7b"),
        (["--random-weights", "stt-1b"], "doesn't speak"),
        (["--random-weights", "moshi-7b", "--recipe", "q7"], "known: q8, q6"),
        (["--recipes", "q4,q9"], "unknown recipe 'q9'"),
        (["--recipe", "q4", "--recipes", "q8"], "not both"),
        (["--model", "nano", "--random-weights", "nano"], "not both"),
        (["--model", "nano", "--recipe", "q4"], "own precision"),
        (["--codec", "rust"], "needs a --model"),
        (["--bits", "8", "--random-weights", "nano"], "not both"),
        (["--chip", "M99 Hyper"], "unknown chip"),
        (["--frames", "1"], "2 or more"),
        (["--minutes", "-3"], "more than 0"),
        (["--minutes", "1", "--frames", "10"], "not both"),
        (["--minutes", "nan"], "more than 0"),
        (["--metal-capture", "a.gputrace"], "Metal"),
        (["--model", "no/such/folder/anywhere", "--offline"], "no/such"),
    ],
)
def test_bad_options_are_one_line(argv, says, capsys, no_work, monkeypatch):
    if argv[0] == "--model" and "--offline" in argv:
        monkeypatch.undo()  # this one fails while loading
    loads = argv[0] in ("--metal-capture",) or "--offline" in argv or "stt-1b" in argv
    assert_one_line(["bench", *argv], says, capsys, status=1 if loads else 2)


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
    monkeypatch.setattr(subject, "random_lm", lambda *_: pytest.fail("allocated"))
    assert_one_line(["bench"], "q4 needs 7.5 GB of memory and this machine can give 6.0", capsys)


@pytest.mark.parametrize("facts", [ROSETTA, VM_WITHOUT_METAL])
def test_where_mlx_does_not_start_the_doctor_is_named(facts, capsys, monkeypatch):
    monkeypatch.setattr(platform_facts, "gather", lambda *_, **__: facts)
    assert_one_line(["bench"], "moshi doctor", capsys)


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
    monkeypatch.setattr(bench, "measure", interrupted)
    report = tmp_path / "a.json"
    assert cli.main(["bench", "--model", "nano", "--chip", "M2", "--json", str(report)]) == 1
    out, errors = capsys.readouterr()
    assert out == "" and "nothing was measured" in errors and not report.exists()
