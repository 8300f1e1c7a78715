"""Options that take numbers: one out of range is wrong usage, on the command line and in a file."""

import argparse

import pytest

from app import cli
from app.commands.registry import COMMANDS, module_of
from app.options.numbers import Number


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["say", "hi", "--mark-payload", "99999"], "a whole number from 0 to 4095, not 99999"),
        (["say", "hi", "--slower", "3"], "--slower: must be a number from -2 to 2, not 3"),
        (["say", "hi", "--slower", "nan"], "a number from -2 to 2, not nan"),
        (["say", "hi", "--guidance", "-1"], "a number from 0 to 20"),
        (["say", "hi", "--codebooks", "0"], "a whole number of 1 or more, not 0"),
        (["say", "hi", "--codebooks", "1.5"], "a whole number of 1 or more, not 1.5"),
        (["say", "hi", "--seed", "9" * 5000], "a whole number from 0 to 4294967295, not 9999"),
        (["say", "hi", "--text-temperature", "inf"], "a number from 0 to 1000, not inf"),
        (["translate", "a", "b", "--guidance", "0.5"], "a number from 1 to 10, not 0.5"),
        (["transcribe", "a", "--batch", "0"], "a whole number of 1 or more"),
        (["text", "hi", "--seed", "-1"], "a whole number from 0 to 4294967295, not -1"),
        (["text", "hi", "--max-tokens", "0"], "a whole number of 1 or more"),
        (["text", "hi", "--temperature", "nan"], "a number from 0 to 1000, not nan"),
        (["chat", "--audio-top-k", "-5"], "a whole number from 0 to 2147483647, not -5"),
    ],
)
def test_out_of_range_is_wrong_usage(argv, says, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    last = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and says in last and len(last) < 200


def test_preferences_are_told_the_same(tmp_path, capsys):
    path = tmp_path / "chat.toml"
    path.write_text("mark_payload = 99999\n")
    assert cli.main(["chat", "--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert "mark_payload must be a valid whole number from 0 to 4095, not 99999" in said
    path.write_text("text_top_k = 30\n")
    parser = argparse.ArgumentParser()
    module = module_of("chat")
    module.configure(parser)
    assert module.parse(parser, ["--config", str(path)]).text_top_k == 30


def test_numbers_are_what_they_look_like():
    assert Number(0, 5, whole=True)("3") == 3 and type(Number(0, 5, whole=True)("3")) is int
    assert Number(0)("1e300") == 1e300


def test_every_number_that_commands_share_knows_its_range():
    """Not `int` or `float` alone, which take any: those of one command are checked by it."""
    shared: dict[str, set[str]] = {}
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        module_of(name).configure(parser)
        for action in parser._actions:
            if action.type in (int, float) and action.choices is None:
                shared.setdefault(action.dest, set()).add(name)
    own = {"input_channel", "tail", "frames"}  # UsageError: status 2, too
    assert {dest for dest, names in shared.items() if len(names) > 1} <= own
