"""What a command line gets wrong: status 2 and one line, as argparse's own refusals."""

import pytest

from app import cli


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["chta"], "did you mean `moshi chat`?"),
        (["transcript"], "did you mean `moshi transcribe`?"),
        (["xyzzy"], "known: chat, web"),
        (["bench", "--frames", "9", "--minutes", "1"], "--frames or --minutes, not both"),
        (["chat", "--model", "nano", "--bits", "8"], "already says which"),
        (["text"], 'moshi text "Once upon a"'),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(argv, says, capsys):
    assert cli.main(argv) == 2
    out, told = capsys.readouterr()
    assert not out and told.startswith("error: ") and told.count("\n") == 1 and says in told


@pytest.mark.parametrize(
    ("command", "says", "not_said"),
    [
        ("demo", "(default: nano)", "--bits"),
        ("bench", "(default: none, made-up weights are measured)", "default: kyutai"),
        ("bench", "how many (default 200)", "None"),
        ("chat", "(default: kyutai/moshiko-mlx-q4)", "%(default)s"),
    ],
)
def test_help_tells_the_true_default(command, says, not_said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks lines at hyphens
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert says in said and not_said not in said
