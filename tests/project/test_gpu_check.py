"""tools/gpu_check.sh: its steps, on this CPU with a tiny shape, and what it installs for a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models.bench_shapes import SMALL

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "gpu_check.sh"
# Stands for every Python: tells its arguments, makes environments that hold itself.
FAKE = """#!/bin/sh
echo "$@" >>"{told}"
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
fi
case "$2" in
*default_device*) echo {device} ;;
*version*) echo 0.32.4 ;;
esac
exit {status}
"""


def gpu_check(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *args],
        **{"capture_output": True, "text": True, "timeout": 300, "stdin": subprocess.DEVNULL},
        env=os.environ | environment,
    )


def there(venv: Path, extra: str) -> Path:
    """An environment that was installed before: this one."""
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (venv / f".installed-{extra}").touch()
    return venv


def faked(tmp_path: Path, device: str = "gpu", status: int = 0) -> tuple[Path, Path]:
    """A Python that runs nothing, and what it is asked for."""
    python, told = tmp_path / "python3", tmp_path / "told"
    python.write_text(FAKE.format(told=told, device=device, status=status))
    python.chmod(0o755)
    return python, told


def test_its_steps_run_here_and_leave_their_results(tmp_path: Path) -> None:
    shape = tmp_path / "shape.json"
    shape.write_text(json.dumps(SMALL))
    done = gpu_check(
        str(tmp_path / "results"),
        **{"EXTRA": "cpu", "VENV": str(there(tmp_path / "venv", "cpu"))},
        **{"PARTS": "norms rotary", "SHAPE": str(shape), "RECIPES": "q4,q8", "FRAMES": "5"},
        XDG_STATE_HOME=str(tmp_path / "state"),
    )
    assert done.returncode == 0, done.stderr
    selftest, bench = (
        json.loads((tmp_path / "results" / name).read_text())
        for name in ("selftest.json", "bench.json")
    )
    assert selftest["ok"] and [p["name"] for p in selftest["parts"]] == [
        "norms",
        "rotary positions",
    ]
    assert len(bench["runs"]) == 2
    versions = (tmp_path / "results" / "versions.txt").read_text()
    assert versions.startswith("Python 3.") and str(ROOT) not in versions


def test_for_a_gpu_cudas_part_of_mlx_is_the_one_that_stays(tmp_path: Path) -> None:
    python, told = faked(tmp_path)
    done = gpu_check(str(tmp_path / "r"), PYTHON=str(python), VENV=str(tmp_path / "venv"))
    assert done.returncode == 0, done.stderr
    lines = told.read_text().splitlines()
    pip = [line.split(" -m pip ")[-1].removeprefix("-m pip ") for line in lines if "pip " in line]
    assert [line.split()[0] for line in pip] == ["install", "uninstall", "install"]
    assert pip[0].endswith(".[cuda]") and pip[1].endswith("mlx-cpu")
    assert pip[2].endswith("--no-deps mlx-cuda-13==0.32.4")
    (selftest,) = [line for line in lines if " selftest " in line]
    (bench,) = [line for line in lines if " bench " in line]
    assert selftest.endswith("--force") and "selftest.json" in selftest
    assert "--random-weights moshi-7b --recipes q4,q8,bf16" in bench


def test_a_part_that_is_wrong_does_not_keep_the_bench_from_running(tmp_path: Path) -> None:
    shape = tmp_path / "none.json"
    venv = there(tmp_path / "venv", "cpu")
    options = {"EXTRA": "cpu", "VENV": str(venv), "PARTS": "nothing", "SHAPE": str(shape)}
    done = gpu_check(str(tmp_path / "results"), **options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no part 'nothing'" in done.stderr and "none.json" in done.stderr


@pytest.mark.parametrize(
    ("args", "device", "status", "says"),
    [((), "gpu", 2, "say where to leave the results"), (("r",), "cpu", 1, "CUDA 13")],
)
def test_bad_input(
    args: tuple[str, ...], device: str, status: int, says: str, tmp_path: Path
) -> None:
    python, _ = faked(tmp_path, device)
    results = [str(tmp_path / arg) for arg in args]
    done = gpu_check(*results, PYTHON=str(python), VENV=str(tmp_path / "venv"))
    assert done.returncode == status
    assert says in done.stderr.splitlines()[-1] and not (tmp_path / "r" / "bench.json").exists()
