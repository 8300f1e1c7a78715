"""What a self-test leaves for talks and the doctor, and what a talk does with it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.commands import chat, doctor, selftest
from app.doctor.checks import OK, WARNING
from app.options.fallbacks import take_fallbacks
from app.selftest.part import KV_16, NONE, OTHER_RECIPE, PAUSES, RUST, SPEED, UNCOMPILED, PartResult
from app.selftest.remembered import (
    SCHEMA_VERSION,
    SelftestOutcome,
    WrongPart,
    default_path,
    machine_key,
    outcome_of,
    recall,
    remember,
)
from tests.support.fakes.commands import parsed

KEY = {"system": "Darwin 15.5", "chip": "Apple M2", "mlx": "0.32.4", "moshi_local": "0.1.0"}
CODEC, CACHE = WrongPart("Mimi encodes", RUST), WrongPart("KV cache in 8 bit", KV_16)
STEP, TIME = WrongPart("compiled step", UNCOMPILED), WrongPart("temporal transformer", NONE)
Q8 = WrongPart("q8", OTHER_RECIPE)
EVERYTHING = SelftestOutcome("2026-11-30", 20, (CODEC, CACHE, STEP, TIME, Q8))


def document(**changed: Any) -> str:
    """A file as `remember` writes it, but for what is changed."""
    whole = {"schema_version": SCHEMA_VERSION, "machine": KEY, "when": "x", "right": 1}
    return json.dumps({**whole, "wrong": [], "gains": [], **changed})


def test_a_file_as_it_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    path.write_text(document())
    assert recall(path, KEY) == SelftestOutcome("x", 1)


def test_an_outcome_comes_back_on_the_same_machine_with_the_same_versions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "selftest.json"
    remember(EVERYTHING, path, KEY)
    assert recall(path, KEY) == EVERYTHING
    for name in KEY:
        assert recall(path, KEY | {name: "another"}) is None
    assert recall(tmp_path / "none.json", KEY) is None


def test_the_key_is_of_this_machine_and_names_nobody(tmp_path: Path) -> None:
    key = machine_key()
    assert key["mlx"] and key["chip"] and set(key) == set(KEY)
    remember(EVERYTHING, tmp_path / "s.json")
    assert recall(tmp_path / "s.json") == EVERYTHING


def test_what_results_become() -> None:
    results = [
        PartResult("norms", "ok", 1.0),
        PartResult("speed", "not here", 1.0),
        PartResult("Mimi encodes", "off", 1.0, fallback=RUST),
    ]
    assert outcome_of(results, 0.0).right == 1
    assert outcome_of(results).wrong == (CODEC,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"schema_version": 3}',
        "\x00\xff",
        document(when=3),
        document(right="1"),
        document(wrong=5),
        document(wrong=[{}]),
        document(when="x\x1b[2J"),
        document(gains=7),
        document(gains=[["x"]]),
        document(schema_version=SCHEMA_VERSION + 1),
    ],
)
def test_a_file_that_somebody_else_wrote_counts_as_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    path.write_text(text, encoding="latin-1")
    assert recall(path, KEY) is None


def test_a_file_sets_no_option_that_a_fallback_does_not() -> None:
    """`option: model` in the file is advice, not an option."""
    part = {"name": "norms", "advice": "this", "option": "model", "value": "/evil"}
    path = default_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document(wrong=[part]))
    try:
        found = recall(key=KEY)
        assert found is not None and found.wrong[0].fallback.option == ""
    finally:
        path.unlink()


class Asked:
    def __init__(self, yes: bool) -> None:
        self.yes, self.questions = yes, []

    def __call__(self, question: str) -> bool:
        self.questions.append(question)
        return self.yes


def test_who_says_yes_gets_the_fallbacks() -> None:
    args, ask = parsed(chat, "--kv-bits", "8", "--model", "a/b"), Asked(True)
    told = take_fallbacks(args, EVERYTHING, "q4", ask, rust=lambda: True)
    assert (args.codec, args.kv_bits, args.uncompiled) == ("rust", 16, True)
    assert len(ask.questions) == 3 and "Take --codec rust?" in ask.questions[0]
    assert len(told) == 1 and "temporal transformer is wrong here: take none" in told[0]


def test_who_says_no_keeps_the_options_and_is_told() -> None:
    args, ask = parsed(chat, "--kv-bits", "8", "--model", "a/b"), Asked(False)
    told = take_fallbacks(args, EVERYTHING, "q8", ask, rust=lambda: True)
    assert (args.codec, args.kv_bits, args.uncompiled) == ("auto", 8, False)
    assert len(told) == 5 and "q8 is wrong here: take a model of another recipe" in told[4]


def test_one_fallback_is_asked_about_once() -> None:
    both = SelftestOutcome("x", 1, (CODEC, replace(CODEC, name="Mimi decodes")))
    for yes in (True, False):
        ask = Asked(yes)
        take_fallbacks(parsed(chat, "--model", "a/b"), both, "q4", ask, rust=lambda: True)
        assert len(ask.questions) == 1


@pytest.mark.parametrize(
    ("argv", "outcome"),
    [
        (("--codec", "rust"), SelftestOutcome("x", 1, (CODEC,))),
        ((), SelftestOutcome("x", 1, (CACHE,))),  # 16 bit are taken already
        (("--uncompiled",), SelftestOutcome("x", 1, (STEP,))),
        ((), SelftestOutcome("x", 1, (WrongPart(SPEED, NONE), WrongPart(PAUSES, NONE)))),
        ((), SelftestOutcome("x", 1, (Q8,))),  # the model is of another recipe
        ((), SelftestOutcome("x", 30)),
        ((), None),
    ],
)
def test_what_a_talk_does_not_run_is_not_asked_about(argv, outcome) -> None:
    ask = Asked(True)
    assert take_fallbacks(parsed(chat, *argv), outcome, "q4", ask, rust=lambda: True) == []
    assert ask.questions == []


@pytest.mark.parametrize(("model", "rust"), [("nano", True), ("a/b", False)])
def test_where_rustymimi_cannot_run_it_is_not_offered(model: str, rust: bool) -> None:
    args, ask = parsed(chat, "--model", model), Asked(True)
    (line,) = take_fallbacks(args, SelftestOutcome("x", 1, (CODEC,)), "", ask, rust=lambda: rust)
    assert args.codec == "auto" and "rustymimi can't replace it" in line and not ask.questions


@pytest.mark.parametrize(
    ("outcome", "level", "says"),
    [
        (None, OK, "moshi selftest"),
        (SelftestOutcome("2026-11-30", 28), OK, "28 parts compute what they should (2026-11-30)"),
        (EVERYTHING, WARNING, "Mimi encodes"),
    ],
)
def test_the_doctor_has_a_line_of_it(outcome, level: str, says: str) -> None:
    line = doctor.computes(outcome)
    assert line.level == level and says in line.text
    assert (level == OK) != ("--codec rust" in line.advice)


def test_a_whole_run_is_kept_and_a_part_of_it_is_not(tmp_path: Path, capsys) -> None:
    from tests.support.fakes.doctor_machines import M2_AIR

    path = tmp_path / "selftest.json"
    wrong = PartResult("Mimi encodes", "off", 1.0, fallback=RUST)
    for argv, kept in ((["norms"], False), ([], True)):
        args = parsed(selftest, *argv)
        status = selftest.run(args, lambda *a, **k: M2_AIR, lambda *a: [wrong], path)
        assert status == 1 and path.exists() is kept
    found = recall(path)
    assert found is not None and found.wrong == (CODEC,)
    folder = tmp_path / "file"
    folder.write_text("no folder")
    args = parsed(selftest)
    assert selftest.run(args, lambda *a, **k: M2_AIR, lambda *a: [wrong], folder / "s.json") == 1
    assert "can't be kept" in capsys.readouterr().err


def test_uncompiled_runs_operation_by_operation() -> None:
    """In a process of its own: it holds for all that is computed there."""
    script = """
import argparse, mlx.core as mx
from app.options.model import follow_compile_option
traces = []
f = mx.compile(lambda x: traces.append(1) or x + 1)
for uncompiled in (False, True):
    follow_compile_option(argparse.Namespace(uncompiled=uncompiled))
    traces.clear()
    for _ in range(3):
        mx.eval(f(mx.ones(2)))
    print(len(traces))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        **{"capture_output": True, "text": True, "timeout": 120},
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert run.stdout.split() == ["1", "3"], run.stderr


def test_a_chat_that_nobody_can_be_asked_in_tells_and_goes_on(tmp_path: Path) -> None:
    """The command as it runs in a pipe, told of a wrong codec."""
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
    remember(SelftestOutcome("2026-11-30", 1, (STEP,)), tmp_path / "moshi" / "selftest.json")
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "chat", "--model", "nano", "--virtual-input", "none.wav"],
        **{"capture_output": True, "text": True, "timeout": 120, "env": env},
    )
    assert run.returncode == 1
    told = run.stderr.splitlines()
    assert told[0].endswith("compiled step is wrong here: --uncompiled goes around it")
    assert "none.wav" in told[1] and len(told) == 2
