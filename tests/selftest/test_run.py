"""The command: a child that dies or hangs, the table, the report, what is told and returned."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from app import cli
from app.commands import selftest
from app.selftest import report
from app.selftest.child import from_json, to_json
from app.selftest.part import (
    FAILED,
    KV_16,
    NONE,
    NOT_HERE,
    OFF,
    OK,
    Deviation,
    Fallback,
    PartResult,
)
from app.selftest.run import Runner
from app.selftest.table import parts
from moshi_mlx.errors import MoshiError, UsageError
from moshi_mlx.output.whole_file import ExistsError
from tests.support.fakes.commands import parsed
from tests.support.fakes.doctor_machines import M2_AIR, VM_WITHOUT_METAL

GOOD = PartResult("rotary positions", OK, 0.5, Deviation("step 7", 1e-6, 1e-4), fallback=NONE)
WRONG = PartResult("KV cache in 8 bit", OFF, 0.5, Deviation("step 7", 0.5, 1e-4), fallback=KV_16)
THREE: dict[str, Fallback] = {"one": NONE, "two": KV_16, "three": NONE}
CHILD = """
import json, os, sys, time
def result(name):
    print(json.dumps({"begins": name}), flush=True)
    row = {"name": name, "status": "ok", "seconds": 0.1, "worst": None, "why": "",
           "notes": [], "gains": [], "fallback": {"advice": "a", "option": "", "value": ""}}
    print(json.dumps({"result": row}), flush=True)
for name in sys.argv[1:]:
    if name == "two":
        print(json.dumps({"begins": name}), flush=True)
        BAD
    result(name)
"""


def runner(bad: str, told: list[str], timeout_s: float = 60.0) -> Runner:
    """One whose child does something bad at its second part."""

    def start(names: Sequence[str], errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        script = CHILD.replace("BAD", bad)
        return subprocess.Popen(
            [sys.executable, "-c", script, *names], stdout=subprocess.PIPE, stderr=errors
        )

    return Runner(
        THREE, told.append, lambda r: told.append(f"{r.name} {r.status}"), start, timeout_s
    )


def test_a_child_that_tells_everything() -> None:
    told: list[str] = []
    results = runner("pass", told).run()
    assert [(r.name, r.status) for r in results] == [("one", OK), ("two", OK), ("three", OK)]
    assert told == ["one", "one ok", "two", "two", "two ok", "three", "three ok"]


@pytest.mark.parametrize(
    ("bad", "timeout_s", "why"),
    [
        ("os.abort()", 60.0, "it ended the process (signal 6)"),
        ("os._exit(3)", 60.0, "it ended the process (status 3)"),
        ("print('[METAL] at /Users/ada/x: gone', file=sys.stderr); os._exit(1)", 60.0, "... gone"),
        ("time.sleep(600)", 5.0, "it didn't end within 5 seconds"),
    ],
)
def test_a_part_that_takes_its_process_down_is_named_and_the_others_are_run(
    bad: str, timeout_s: float, why: str
) -> None:
    results = runner(bad, [], timeout_s).run()
    assert [(r.name, r.status) for r in results] == [("one", OK), ("two", FAILED), ("three", OK)]
    assert results[1].why.endswith(why) and "ada" not in results[1].why
    assert results[1].fallback is KV_16


def test_a_child_that_comes_to_no_part_fails_them_all_at_once() -> None:
    started = []

    def start(names: Sequence[str], errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        started.append(names)
        return subprocess.Popen(
            [sys.executable, "-c", "raise SystemExit('no module')"],
            stdout=subprocess.PIPE,
            stderr=errors,
        )

    results = Runner(THREE, lambda name: None, lambda result: None, start).run()
    assert [r.status for r in results] == [FAILED] * 3 and len(started) == 1
    assert results[0].why == "it ended the process (status 1): no module"


@pytest.mark.parametrize("off", [0.5, float("inf"), float("nan")])
def test_results_travel_as_strict_json(off: float) -> None:
    sent = replace(WRONG, worst=Deviation("x", off, 1.0), notes=("a", "b"))
    line = json.dumps(to_json(sent), allow_nan=False)
    assert to_json(from_json(json.loads(line))) == to_json(sent)


def command(
    results: list[PartResult], *argv: str, facts=M2_AIR
) -> tuple[int, list[dict[str, Fallback]]]:
    asked = []

    def run_parts(
        fallbacks: dict[str, Fallback], begin: Callable, end: Callable
    ) -> list[PartResult]:
        asked.append(fallbacks)
        for result in results:
            begin(result.name)
            end(result)
        return results

    args = parsed(selftest, *argv)
    return selftest.run(args, gather=lambda *a, **k: facts, run_parts=run_parts), asked


def test_all_right_is_status_0_and_one_line_a_part(capsys) -> None:
    status, asked = command([GOOD])
    assert status == 0 and list(asked[0]) == [part.name for part in parts()]
    out = capsys.readouterr().out
    assert "rotary positions" in out and "1 parts compute what they should (metal" in out


def test_a_wrong_part_is_status_1_and_says_what_to_take_instead(capsys) -> None:
    status, _ = command([GOOD, WRONG])
    out = capsys.readouterr().out
    assert status == 1
    assert "5.0e-01 of 1e-04" in out and "1 of 2 parts are wrong" in out
    assert "take --kv-bits 16" in out


def test_the_report_has_no_names_and_no_paths(capsys, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    assert command([GOOD, WRONG], "--json", str(target))[0] == 1
    document = json.loads(target.read_text())
    assert document["schema"] == "moshi-selftest" and document["ok"] is False
    assert [p["status"] for p in document["parts"]] == [OK, OFF]
    assert [p["fallback"] for p in document["parts"]] == [None, "--kv-bits 16"]
    assert document["machine"]["backend"] == "metal"
    assert "/" not in target.read_text().replace("with/", "")
    capsys.readouterr()
    assert command([GOOD], "--json")[0] == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_bad_input(tmp_path: Path, capsys) -> None:
    with pytest.raises(UsageError, match="no part 'kv9'; known: products"):
        command([GOOD], "kv9")
    target = tmp_path / "there.json"
    target.write_text("mine")
    with pytest.raises(ExistsError, match="choose another name, or replace it"):
        command([GOOD], "--json", str(target))
    assert target.read_text() == "mine"
    with pytest.raises(MoshiError, match="MLX doesn't start here"):
        command([GOOD], facts=VM_WITHOUT_METAL)
    assert cli.main(["selftest", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_parts_are_chosen_by_the_start_of_their_names() -> None:
    _, asked = command([GOOD], "kv", "Q4", "mimi")
    assert list(asked[0]) == ["KV cache", "KV cache in 8 bit", "q4", "Mimi encodes", "Mimi decodes"]


def test_the_table_shows_each_kind_of_line() -> None:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    exact = Deviation("tokens", 0.25, 0.0)
    for result in (
        replace(GOOD, notes=("80 % of the memory's speed",)),
        PartResult("sampling", OK, 0.1, replace(exact, off=0.0)),
        PartResult("sampling", OFF, 0.1, exact),
        PartResult("limits", NOT_HERE, 0.0, why="no Metal"),
    ):
        console.print(report.line_of(result))
    text = console.export_text()
    for part in ("80 % of", "equal", "25.00% differ  tokens", "not here", "no Metal"):
        assert part in text


def test_a_real_child_runs_two_parts(capsys) -> None:
    """The command as it is typed; the fast ones."""
    assert cli.main(["selftest", "norms", "rotary", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in document["parts"]] == ["norms", "rotary positions"]
    assert document["ok"] and all(p["status"] == OK for p in document["parts"])
