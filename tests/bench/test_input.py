"""`moshi bench` with every bad input, and interrupted: one line, nothing half-written."""

import json
import signal
import time

import pytest

from app.commands import bench
from moshi_mlx.errors import MoshiError, UsageError
from tests.support.fakes.commands import parsed
from tests.support.fakes.doctor_machines import LINUX, M1_8GB, M4_MAX, ROSETTA, VM_WITHOUT_METAL
from tests.support.processes.bench_process import assert_one_line, moshi


def refused(facts, *argv: str) -> MoshiError:
    """What a run ends with on a machine of `facts`, before anything is measured: one line."""
    with pytest.raises(MoshiError) as caught:
        bench.run(
            parsed(bench, *argv),
            gather=lambda *_, **__: facts,
            measure=lambda *_: pytest.fail("measured"),
        )
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--random-weights", "moshi-8b"], "moshi-7b"),
        (["--random-weights", "helium-2b"], "neither hears nor speaks"),
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
    ],
)
def test_bad_options_are_one_line(argv, says):
    error = refused(M4_MAX, *argv)
    fits_no_machine = argv[0] == "--metal-capture"
    assert says in str(error) and isinstance(error, UsageError) != fits_no_machine


def test_a_model_that_is_not_there_is_one_line(capsys):
    argv = ["bench", "--model", "no/such/folder/anywhere", "--offline"]
    assert_one_line(argv, "no/such", capsys)


@pytest.mark.parametrize("option", ["--json", "--html", "--trace"])
@pytest.mark.parametrize("place", ["missing/report", "."])
def test_an_unwritable_report_is_refused_before_the_run(option, place, tmp_path):
    before = list(tmp_path.iterdir())
    assert str(tmp_path) in str(refused(M4_MAX, option, str(tmp_path / place)))
    assert list(tmp_path.iterdir()) == before


def test_a_model_that_does_not_fit_is_one_line():
    assert "q4 needs 7.5 GB of memory and this machine can give 6.0" in str(refused(M1_8GB))


@pytest.mark.parametrize("facts", [ROSETTA, VM_WITHOUT_METAL])
def test_where_mlx_does_not_start_the_doctor_is_named(facts):
    assert "moshi doctor" in str(refused(facts))


def test_ctrl_c_prints_what_there_is(tmp_path):
    """A run of a minute, stopped by the signal that Ctrl-C sends once frames were timed."""
    report = tmp_path / "a.json"
    argv = ["--model", "nano", "--minutes", "1", "--chip", "M2", "--json", str(report)]
    process = moshi("bench", *argv)
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


def test_ctrl_c_before_the_first_frame_says_so(tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    report = tmp_path / "a.json"
    args = parsed(bench, "--model", "nano", "--chip", "M2", "--json", str(report))
    assert bench.run(args, lambda *_, **__: LINUX, measure=interrupted) == bench.INCOMPLETE
    out, errors = capsys.readouterr()
    assert out == "" and "nothing was measured" in errors and not report.exists()
