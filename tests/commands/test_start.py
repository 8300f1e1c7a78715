"""`moshi --help` starts at once: measured against a Python that does nothing, in CPU time."""

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRIES = 5


def cpu_s(*args: str) -> float:
    """User and system time of a Python, from the system's own account."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def help_is_cheap() -> bool:
    nothing = cpu_s("-c", "pass")
    yardstick = cpu_s("-c", "import argparse, asyncio, email.message, json")  # 100 ms idle
    return cpu_s("-m", "app.cli", "--help") < 1.5 * nothing + max(0.1, yardstick - nothing)


def test_help_costs_little_more_than_python_itself() -> None:
    """Neighbours make a run dear now and then, and none cheap."""
    assert any(help_is_cheap() for _ in range(TRIES))


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
