"""Stand-ins for system libraries, built from C in the test run."""

import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
FOLDER = Path(__file__).parent


def build(source: str, target: Path) -> Path:
    """tests/support/`source` -> a shared library at `target`."""
    assert COMPILER is not None
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread"]
    done = subprocess.run(
        [*command, "-o", str(target), str(FOLDER / source), "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target
