"""The command line whose input, output, terminal or temporary folder isn't what it should be."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.events import Notice, Ready
from app.screen.plain_text import PlainText
from moshi_mlx.errors import MoshiError, printable
from moshi_mlx.hub import NANO

ROOT = Path(__file__).parents[2]
MOSHI = (sys.executable, "-u", "-m", "app.cli")
QUESTION = str(NANO / "samples" / "four_plus_three.wav")


def run(*args, **options):
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([*MOSHI, *map(str, args)], **options)


@pytest.mark.parametrize(
    ("args", "gone", "other"),
    [(["--help"], "stdout", "stderr"), (["nonsense"], "stderr", "stdout")],
)
def test_a_reader_that_has_gone_is_no_traceback(args, gone, other):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(*args, capture_output=False, **{gone: writing, other: subprocess.PIPE})
    os.close(writing)
    assert done.returncode == 141 and not (done.stdout or done.stderr), done


@pytest.mark.parametrize("args", ["--help", "web --help"])
def test_help_for_a_reader_of_one_line(args):
    line = f"set -o pipefail; {' '.join(MOSHI)} {args} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("usage: moshi ") and not done.stderr
    assert done.returncode in (0, 141)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_nowhere(tmp_path, closed):
    """Or else the model's file would be opened as number 0 and thought to be missing."""
    out = tmp_path / "out.wav"
    line = f"{' '.join(MOSHI)} file {QUESTION} {out} --model nano --tail 0 {closed}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 40_000 and (tmp_path / "out.jsonl").exists()


def test_a_temporary_folder_that_is_missing_is_done_without(tmp_path):
    env = os.environ | {"TMPDIR": str(tmp_path / "no" / "such" / "folder")}
    done = run("file", QUESTION, tmp_path / "out.wav", "--model", "nano", "--tail", "0", env=env)
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_no_text_is_written_with_its_bytes(tmp_path):
    name = os.fsdecode(b"\xff\xfe\x1b]0;evil\x07.wav")
    done = run("file", QUESTION, tmp_path / name, "--model", "nano", "--tail", "0")
    assert done.returncode == 0 and "\\udcff" in done.stderr
    assert "\x1b" not in done.stderr and "\\x1b]0;evil" in done.stderr


def test_escape_codes_in_a_files_name_come_out_as_text(tmp_path):
    done = run("file", tmp_path / "\x1b]0;evil\x07\x1b[31m\nerror: no.wav", tmp_path / "o.wav")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "\\x1b]0;evil\\x07\\x1b[31m\\nerror: no.wav" in line and "\x1b" not in line


def test_what_was_typed_or_named_by_others_is_shown_as_text(capsys):
    odd = "\x1b]0;evil\x07\u202e"
    assert "\\x1b]0;evil" in Ready(odd, "q4", 0.1, adapter=odd).title
    notes = io.StringIO()
    PlainText(io.StringIO(), notes).show(Notice("device", f"sound is back on {odd}"))
    with pytest.raises(SystemExit) as ended:
        main(["chat", f"--{odd}"])
    assert ended.value.code == 2
    for said in (Ready(odd, "q4", 0.1).title, notes.getvalue(), capsys.readouterr().err):
        assert odd not in said and "\x1b" not in said and "\u202e" not in said


def test_what_is_printable_stays_as_it_is():
    assert printable("naïve — 日本 🙂 {x}") == "naïve — 日本 🙂 {x}"
    assert printable("a\x1b[2Jb\u202ec\nd") == "a\\x1b[2Jb\\u202ec\\nd"
    assert str(MoshiError("no\rfile")) == "no\\rfile"


def test_a_message_is_never_longer_than_a_page():
    assert str(MoshiError("a" * 400 + " b")) == "a" * 400 + " b"
    said = str(
        MoshiError(f"{'x' * 10**6}.safetensors is damaged: " + "a b " * 10**5 + "so fetch it")
    )
    assert 2000 < len(said) <= 4000 and said.count("...") == 2
    assert ".safetensors is damaged" in said and said.endswith("so fetch it")
