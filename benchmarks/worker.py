"""Two processes, one per environment, that take turns: each runs a side on the other's word.

Imported in both environments: the standard library only.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
PEER_MODULE = "moshi_mlx.models.generate"  # Kyutai's package has it, this one doesn't


class Side(Protocol):
    """One implementation: its methods do one thing once, and `serve` times them."""

    def versions(self) -> dict[str, str]: ...


def timed_ms(call: Callable[[], Any], between: Callable[[Any], None] | None = None) -> float:
    start = time.perf_counter()
    result = call()
    spent = 1000 * (time.perf_counter() - start)
    if between:
        between(result)
    return spent


def one_core() -> None:
    """Everything of this process on one core, with one thread a library; call it before imports."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def serve(side: Any) -> None:
    """Answer requests `[method, times]` on standard input with a list of what each call gave."""
    print(json.dumps(side.versions()), flush=True)
    for line in sys.stdin:
        method, times = json.loads(line)
        print(json.dumps([getattr(side, method)() for _ in range(times)]), flush=True)


class Worker:
    """The other end of `serve`: a script of this folder run by some Python."""

    def __init__(self, python: str, script: str, *arguments: str) -> None:
        path = str(ROOT) if script.endswith("_ours.py") else ""
        self.process = subprocess.Popen(
            [python, str(Path(__file__).parent / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            cwd=Path(__file__).parent,
        )
        self.versions: dict[str, str] = self._answer()

    def __call__(self, method: str, times: int = 1) -> list[Any]:
        assert self.process.stdin is not None
        print(json.dumps([method, times]), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[1]} ended; its message stands above")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def peer_python(given: str | None) -> str:
    """The Python of an environment with Kyutai's `moshi_mlx`: the option, else PEER_PYTHON."""
    python = given or os.environ.get("PEER_PYTHON")
    if not python:
        raise SystemExit(
            "no peer: give --peer-python or PEER_PYTHON, a Python with Kyutai's moshi_mlx "
            "(make one with: bash tools/peer_env.sh .venv-peer)"
        )
    check = [python, "-c", f"import {PEER_MODULE}"]
    if subprocess.run(check, capture_output=True, cwd="/").returncode:
        raise SystemExit(f"{python} has no moshi_mlx of Kyutai's; see tools/peer_env.sh")
    return python


def machine() -> dict[str, Any]:
    """What a result has to name."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    preloaded = Path(os.environ.get("LD_PRELOAD", "")).name
    return {
        "cpu": cpu,
        "blas": preloaded or "MLX's own",
        "cores": os.cpu_count(),
        "system": platform.system(),
        "date": time.strftime("%Y-%m-%d"),
    }
