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


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from app.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.rsplit("\n", 2)[-2].split()}
    assert not {"numpy", "mlx", "rich", "textual", "tqdm", "soundfile", "aiohttp"} & loaded
