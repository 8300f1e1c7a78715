"""What a command line gets wrong: status 2 and one line, as argparse's own refusals."""

import argparse
from collections.abc import Iterator

import pytest

from app import cli
from app.commands.registry import COMMANDS, module_of
from moshi_mlx.hub import NANO

QUESTION = NANO / "samples" / "four_plus_three.wav"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["chta"], "did you mean `moshi chat`?"),
        (["transcript"], "did you mean `moshi transcribe`?"),
        (["xyzzy"], "known: chat, web"),
        (["bench", "--frames", "9", "--minutes", "1"], "--frames or --minutes, not both"),
        (["chat", "--model", "nano", "--bits", "8"], "already says which"),
        (["text"], 'moshi text "Once upon a"'),
        # what would be ignored
        (["bench", "--frames", "9", "compare", "a", "b"], "measures nothing: leave --frames out"),
        (["bench", "--html", "x.html", "compare", "a", "b"], "leave --html out"),
        (["bench", "--revision", "v1", "--recipe", "q4"], "--revision is of a model"),
        (["bench", "--offline", "--recipe", "q4"], "--offline is of a model"),
        (["chat", "--tail", "3"], "--tail is the silence after --virtual-input"),
        (["demo", "--no-mark", "--mark-payload", "3"], "--no-mark and --mark-payload contradict"),
        (["file", "{question}", "{out}", "--no-mark", "--mark-key", "k"], "--mark-key contradict"),
        (["trace", "--talks", "a.wav"], "--talks does nothing else: leave FILE out"),
        (["trace", "--make-key", "k", "--talks"], "--make-key does nothing else: leave --talks"),
        (["trace", "--forget", "ALL", "--json"], "--forget does nothing else: leave --json out"),
        (["trace", "--try-codec", "nano", "--json", "a.wav"], "leave --json out"),
        (["trace", "--try-codec", "nano", "--html", "a.html", "a.wav"], "leave --html out"),
        (["models", "--json", "pull", "a/b"], "pull has nothing to tell as JSON"),
        (["models", "--json", "rm", "a/b"], "rm has nothing to tell as JSON"),
        (["quantize", "report", "nano", "nano", "--frames", "9"], "give --audio DIR too"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(argv, says, capsys, tmp_path):
    names = {"question": str(QUESTION), "out": str(tmp_path / "out.wav")}
    assert cli.main([word.format(**names) for word in argv]) == 2
    out, told = capsys.readouterr()
    assert not out and told.startswith("error: ") and told.count("\n") == 1 and says in told


LONG = "x" * 3000


@pytest.mark.parametrize(
    "argv",
    [
        ("file", LONG, "o.wav"),
        ("file", str(QUESTION), "o.wav", "--model", LONG),
        ("file", str(QUESTION), "o.wav", "--model", "nano", "--lora", LONG),
        ("say", "hello", "-o", "o.wav", "--voice", LONG),
        ("say", "list.jsonl", "--output-dir", LONG),
        ("translate", LONG, "o.wav"),
        ("transcribe", LONG),
        ("transcribe", str(QUESTION), "--output-dir", LONG),
        ("trace", LONG),
        ("voices", LONG),
        ("models", "show", LONG),
        ("quantize", LONG, "out"),
        ("quantize", "report", LONG, "out"),
        ("quantize", "push", LONG, "a/b"),
        ("chat", "--resume", LONG),
        ("chat", "--config", LONG),
        ("chat", "--virtual-input", LONG, "--model", "nano"),
        ("web", "--model", "nano", "--tls", f"{LONG},{LONG}"),
        ("doctor", "--json", LONG, "--quick", "--offline"),
    ],
    ids=lambda argv: " ".join(argv).replace(LONG, "LONG").replace(str(QUESTION), "SOUND"),
)
def test_a_name_that_is_too_long_is_one_line(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "list.jsonl").write_text('{"text": "hello"}')
    assert cli.main(argv) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 1500
    assert [path.name for path in tmp_path.iterdir()] == ["list.jsonl"]


@pytest.mark.parametrize(
    ("command", "says", "not_said"),
    [
        ("demo", "(default: nano)", "--bits"),
        ("bench", "(default: none, made-up weights are measured)", "default: kyutai"),
        ("bench", "how many (default: 200)", "None"),
        ("chat", "(default: kyutai/moshiko-mlx-q4)", "%(default)s"),
    ],
)
def test_help_tells_the_true_default(command, says, not_said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks lines at hyphens
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert says in said and not_said not in said


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, str]]:
    """Every argument, those of a command's own commands too, with the help that it shows."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options_of(inner)
        elif action.help:
            yield action, parser._get_formatter()._expand_help(action)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_every_default(command):
    module = module_of(command)
    parser = argparse.ArgumentParser(prog=command)
    getattr(module, "configure_completion", module.configure)(parser)
    for action, told in options_of(parser):
        default = f"{action.default:g}" if isinstance(action.default, float) else action.default
        if default not in (None, False, [], argparse.SUPPRESS):
            assert f"(default: {default}" in told, f"{command} {action.dest}: {told}"
