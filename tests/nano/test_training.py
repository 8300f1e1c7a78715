"""The commands that train the embedded model: without a folder they say so and touch nothing."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "tools/nano/train.sh"],
        ["bash", "tools/nano/train.sh", ""],
        ["bash", "tools/nano/environment.sh"],
        ["make", "-s", "nano"],
        ["make", "-s", "nano", "WORK="],
    ],
    ids=" ".join,
)
def test_without_a_folder_they_say_so(command):
    ours = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, cwd=ROOT, env=ours, capture_output=True, text=True, timeout=120)
    assert done.returncode == (2 if command[0] == "make" else 1)
    told = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(told) == 1 and "say where: " in told[0], done.stderr
    assert done.stdout == ""
