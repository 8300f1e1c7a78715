"""tools/gpu_check.sh: its steps, on this CPU with a tiny shape, and what it installs for a GPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models.bench_shapes import small_shape

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
    """One recipe; that each has a run of its own is seen below, by what is asked for."""
    shape = small_shape(tmp_path / "shape")
    done = gpu_check(
        str(tmp_path / "results"),
        **{"EXTRA": "cpu", "VENV": str(there(tmp_path / "venv", "cpu"))},
        **{"PARTS": "norms rotary", "SHAPE": str(shape), "RECIPES": "q4", "FRAMES": "5"},
        XDG_STATE_HOME=str(tmp_path / "state"),
    )
    assert done.returncode == 0, done.stderr
    selftest, bench = (
        json.loads((tmp_path / "results" / name).read_text())
        for name in ("selftest.json", "bench-q4.json")
    )
    assert selftest["ok"] and [p["name"] for p in selftest["parts"]] == [
        "norms",
        "rotary positions",
    ]
    assert [run["recipe"] for run in bench["runs"]] == ["q4"]
    for name, says in (("selftest", "norms"), ("bench-q4", "floor")):
        printed = (tmp_path / "results" / f"{name}.txt").read_text()
        assert says in printed and str(ROOT) not in printed
    summary = (tmp_path / "results" / "summary.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in summary] == ["selftest", "bench-q4"]
    assert all(": status 0 after " in line for line in summary)
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
    benches = [line for line in lines if " bench " in line]
    assert selftest.endswith("--force") and "selftest.json" in selftest
    for bench, recipe in zip(benches, ("q4", "q8", "bf16"), strict=True):
        assert f"--random-weights moshi-7b --recipe {recipe} " in bench
        assert f"bench-{recipe}.json" in bench


def test_a_part_that_is_wrong_does_not_keep_the_bench_from_running(tmp_path: Path) -> None:
    shape = tmp_path / "none.json"
    venv = there(tmp_path / "venv", "cpu")
    options = {"EXTRA": "cpu", "VENV": str(venv), "PARTS": "nothing", "SHAPE": str(shape)}
    done = gpu_check(str(tmp_path / "results"), **options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no part 'nothing'" in done.stderr and "none.json" in done.stderr


def test_what_hangs_ends_nothing_but_itself(tmp_path: Path) -> None:
    """And what an earlier run left isn't taken for this one's."""
    python, told = tmp_path / "venv" / "bin" / "python", tmp_path / "told"
    there(tmp_path / "venv", "cpu")
    python.write_text(
        f'#!/bin/sh\necho "$@" >>"{told}"\ncase "$*" in *selftest*|*q8*) echo begun; sleep 60;; '
        "*q6*) kill -ABRT $$;; *default_device*) echo cpu;; esac\n"
    )
    results = tmp_path / "results"
    results.mkdir()
    for name in ("selftest.json", "bench-q2.json", "summary.txt"):
        (results / name).write_text("old")
    done = gpu_check(
        str(results),
        **{"EXTRA": "cpu", "VENV": str(tmp_path / "venv"), "RECIPES": "q8,q6,q4"},
        **{"SELFTEST_S": "2", "BENCH_S": "5"},
    )
    assert done.returncode == 1
    summary = (results / "summary.txt").read_text()
    assert re.sub(r" after \d s", "", summary).splitlines() == [
        "selftest: not through within 2 s",
        "bench-q8: not through within 5 s",
        "bench-q6: status 134",
        "bench-q4: status 0",
    ]
    assert (results / "selftest.txt").read_text() == "begun\n"
    assert not list(results.glob("*.json"))


def test_an_mlx_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    there(tmp_path / "venv", "cuda")
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(
        "#!/bin/sh\necho Traceback >&2; echo ImportError: libcudart.so.13: not found >&2; exit 1\n"
    )
    done = gpu_check(str(tmp_path / "results"), VENV=str(tmp_path / "venv"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "MLX doesn't start: ImportError: libcudart.so.13: not found"


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
    assert says in done.stderr.splitlines()[-1] and not list((tmp_path / "r").glob("*.json"))
