"""Completion as a shell does it: bash itself is asked what it would offer."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli
from app.commands.completion import preamble, whole_parser, with_folders
from app.commands.registry import COMMANDS

VOICES = Path(__file__).parents[1] / "golden" / "dsm_tts"
ASK = """
source {script}
moshi() {{ {python} -m app.cli "$@"; }}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="{line}"
COMP_POINT=${{#COMP_LINE}}
_shtab_moshi
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

# Every match that a completion finds is written down, shown or not.
ZSH_SETUP = """
fpath=({folder} $fpath)
autoload -U compinit
compinit -u -d {folder}/dump
compadd() {{
  if [[ ${{@[1,(i)(-|--)]}} != *-(O|A|D)\\ * ]]; then
    typeset -a hits
    builtin compadd -A hits "$@"
    print -l -- $hits >> {folder}/hits
  fi
  builtin compadd "$@"
}}
cd {folder}/here
PS1="READY> "
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    import shtab

    path = tmp_path_factory.mktemp("completion") / "moshi.bash"
    text = shtab.complete(whole_parser(), "bash", preamble=preamble("bash"))
    path.write_text(with_folders(text, "bash"))
    return path


def offered(script, line: str) -> set[str]:
    words = " ".join(f"'{word}'" for word in line.split(" "))
    text = ASK.format(script=script, words=words, line=line, python=sys.executable)
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash isn't installed")
def test_bash_offers_commands_options_and_choices(script):
    assert offered(script, "moshi ch") == {"chat"}
    assert set(COMMANDS) <= offered(script, "moshi ")
    assert {"--model", "--mark"} & offered(script, "moshi chat --m") >= {"--model"}
    assert {"moshiko", "moshika", "NATF2"} < offered(script, "moshi chat --voice ")
    assert {"clear", "list"} <= offered(script, "moshi prompts ")
    assert "--json" in offered(script, "moshi voices --")
    assert {"pull", "show", "rm", "list"} <= offered(script, "moshi models ")
    assert {"report", "push", "app"} <= offered(script, "moshi quantize ")  # or a source: a folder
    assert {"--audio", "--html"} <= offered(script, "moshi quantize report --")
    assert {"--private", "--dry-run"} <= offered(script, "moshi quantize push --")
    assert "--recipe" in offered(script, "moshi quantize --r")
    assert offered(script, "moshi quantize re") == {"report"}
    assert "docs" in offered(script, "moshi quantize do")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash isn't installed")
def test_bash_offers_the_voices_of_the_model_that_is_named(script):
    line = f"moshi say hi --model {VOICES}"
    assert {"ada", "ben"} <= offered(script, f"{line} --voice ")
    begun = offered(script, f"{line} --voice b")
    assert "ben" in begun and "ada" not in begun
    assert "ada,ben" in offered(script, f"{line} --voices ada,b")
    assert "README.md" in offered(script, "moshi say hi --model no/model --voice REA")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh isn't installed")
def test_zsh_loads_the_script(tmp_path, capsys):
    cli.main(["completion", "zsh"])
    (tmp_path / "_moshi").write_text(capsys.readouterr().out)
    load = f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump"
    ask = f"{load}; print $_comps[moshi]"
    done = subprocess.run(["zsh", "-fc", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "_moshi\n" and not done.stderr


def read_until(terminal: int, *ends: bytes) -> None:
    """All of `ends`, one behind the other."""
    said = b""
    while not re.search(b".*".join(ends), said, re.DOTALL):
        said += os.read(terminal, 65536)


@pytest.fixture(scope="module")
def zsh_offers(tmp_path_factory):
    """Asks a zsh at a terminal what it has to offer once Tab is pressed behind a line."""
    import shtab

    folder = tmp_path_factory.mktemp("zsh")
    text = shtab.complete(whole_parser(), "zsh", preamble=preamble("zsh"))
    (folder / "_moshi").write_text(with_folders(text, "zsh"))
    (folder / "here" / "a-model").mkdir(parents=True)
    (folder / ".zshrc").write_text(ZSH_SETUP.format(folder=folder))
    ours, theirs = pty.openpty()
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    environment = {**os.environ, "ZDOTDIR": str(folder), "TERM": "xterm"}

    def offers(line: str) -> set[str]:
        hits = folder / "hits"
        hits.unlink(missing_ok=True)
        os.write(ours, f"{line}\t\x15print DO''NE\r".encode())  # Ctrl-U: the line is not run
        read_until(ours, b"DONE\r\n", b"READY> ")
        return set(hits.read_text().split()) if hits.exists() else set()

    with subprocess.Popen(["zsh", "-d"], env=environment, **terminal) as zsh:
        os.close(theirs)
        read_until(ours, b"READY> ")
        yield offers
        zsh.kill()
    os.close(ours)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh isn't installed")
@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("moshi ", {"chat", "selftest", "quantize"}, {"report"}),
        ("moshi quantize ", {"report", "push", "a-model"}, set()),
        ("moshi quantize a-model ", {"a-model"}, {"report"}),
        ("moshi quantize a-model --", {"--calibrate", "--recipe"}, {"--audio"}),
        ("moshi quantize report --", {"--audio", "--html"}, {"--calibrate"}),
        ("moshi quantize report a-model ", {"a-model"}, {"report"}),
        ("moshi quantize push --", {"--dry-run", "--private"}, {"--calibrate"}),
        ("moshi models rm --", {"--yes"}, {"--calibrate"}),
        ("moshi models show ", {"a-model"}, set()),
        ("moshi chat --lora ", {"a-model"}, set()),
    ],
)
def test_zsh_offers_what_the_command_takes(line, offered, not_offered, zsh_offers):
    found = zsh_offers(line)
    assert offered <= found and not found & not_offered


@pytest.mark.parametrize(("shell", "holds"), [("bash", "complete "), ("zsh", "#compdef moshi"),
                                              ("fish", "complete -c moshi")])  # fmt: skip
def test_every_shell_gets_its_script(shell, holds, capsys):
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert holds in text and all(name in text for name in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_good_shell(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} isn't installed")
    cli.main(["completion", shell])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)
