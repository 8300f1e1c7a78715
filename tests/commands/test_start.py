"""`moshi --help` starts at once: measured against a Python that does nothing, in CPU time."""

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRIES = 5


def least_cpu_s(*args: str) -> float:
    """User and system time of the quickest of some runs, from the system's own account."""
    spent = []
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def test_help_costs_little_more_than_python_itself() -> None:
    nothing = least_cpu_s("-c", "pass")
    yardstick = least_cpu_s("-c", "import argparse, asyncio, email.message, json")  # 100 ms idle
    assert least_cpu_s("-m", "app.cli", "--help") < 1.5 * nothing + max(0.1, yardstick - nothing)


def loaded_by(*args: str) -> set[str]:
    """The packages that a command has imported when it is over."""
    code = """
import atexit, sys
from app.cli import main
atexit.register(lambda: print("\\n", *sys.modules))
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_help_imports_nothing_heavy() -> None:
    heavy = {"numpy", "mlx", "rich", "textual", "tqdm", "soundfile", "aiohttp"}
    assert not heavy & loaded_by("--help")


def test_only_a_text_model_imports_mlx_lm(tmp_path: Path) -> None:
    """It brings transformers, which take longer to import than all of ours together."""
    for args in (("quantize", str(tmp_path), str(tmp_path / "out")), ("doctor", "--help")):
        loaded = loaded_by(*args)
        assert "mlx" in loaded and not {"mlx_lm", "transformers"} & loaded, args
