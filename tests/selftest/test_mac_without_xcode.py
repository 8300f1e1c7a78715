"""The self-test on a Mac without developer tools: nothing opens the window that offers them.

/usr/bin/g++ and its like are there on every Mac and open it. Here they are scripts that tell when
they are run, and the device under test is the CPU as well: while that computes they don't tell,
since a GPU compiles without them.
"""

import os
import subprocess
import sys
from pathlib import Path

TOOLS = ("g++", "gcc", "c++", "cc", "clang", "clang++", "xcrun", "xcodebuild", "make", "git")
TELL = '#!/bin/sh\n[ -n "$ON_DEVICE" ] || echo "$0 $@" >>"{told}"\nexit 1\n'
SCRIPT = """
import os, sys
from contextlib import contextmanager
import mlx.core as mx
from app.selftest.examine import examine
from app.selftest.site import Site
from app.selftest.table import parts
from moshi_mlx.backend.compiler import compiler_works

class Mac(Site):
    @contextmanager
    def under_test(self):
        os.environ["ON_DEVICE"] = "1"
        mx.disable_compile()
        try:
            with super().under_test():
                yield
        finally:
            mx.enable_compile()
            del os.environ["ON_DEVICE"]

    @contextmanager
    def judge(self):
        compiler_works.cache_clear()
        with super().judge():
            yield

site = Mac(mx.Device(mx.cpu), on_gpu=False, compiles=True)
for part in parts():
    if part.name in sys.argv[1:]:
        result = examine(part, site)
        print(result.name, result.status, result.why, flush=True)
"""


def test_the_judge_calls_no_compiler(tmp_path: Path) -> None:
    parts = ("KV cache in 8 bit", "sampling", "q4", "batches, guidance")  # in the table's order
    told = tmp_path / "told"
    for name in TOOLS:
        tool = tmp_path / name
        tool.write_text(TELL.format(told=told))
        tool.chmod(0o755)
    env = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *parts],
        **{"capture_output": True, "text": True, "timeout": 300, "env": env},
    )
    assert run.stdout.splitlines() == [f"{name} ok " for name in parts], run.stderr
    assert not told.exists(), told.read_text()


def test_those_tools_would_be_noticed(tmp_path: Path) -> None:
    """The test above can fail."""
    told = tmp_path / "told"
    tool = tmp_path / "g++"
    tool.write_text(TELL.format(told=told))
    tool.chmod(0o755)
    script = "from moshi_mlx.backend.compiler import can_compile\nprint(can_compile())"
    env = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
    assert "g++" in told.read_text()
