"""Whether MLX can compile functions here.

MLX's CPU backend calls a C++ compiler for compiled functions, mlx.nn's activations among them. It
only asks whether `g++ --version` runs: a compiler that is there and fails would end a frame, so
that one is tried out first, and without it everything runs uncompiled. On a Mac without Apple's
developer tools /usr/bin/g++ is there all the same: it opens a window that offers to install them.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import mlx.core as mx

from .device import on_gpu

DEVELOPER_TOOLS = ("/usr/bin/xcode-select", "-p")  # where they are; opens no window
# Its header comes with the C++ library as <cmath> does, which takes five times as long.
PROBE = """#include <cstddef>
extern "C" double exp(double);
double probe(double x) { return exp(x); }
"""
QUIET = {"capture_output": True, "timeout": 60.0}
RunProgram = Callable[..., "subprocess.CompletedProcess[bytes]"]

_uncompiled = ContextVar("uncompiled", default=False)


def can_compile(gpu: bool | None = None, works: Callable[[], bool] | None = None) -> bool:
    """Always on a GPU, on the CPU with a C++ compiler that works; if not, MLX is told so too.

    gpu: None: as MLX's default device is. works: whether the compiler does; None: tried out once.
    """
    if _uncompiled.get():
        return False
    if on_gpu() if gpu is None else gpu:
        return True
    if not (works or compiler_works)():
        mx.disable_compile()
        return False
    return True


@contextmanager
def uncompiled(compiles: bool) -> Iterator[None]:
    """Operation by operation while this holds, and no compiler is looked for.

    compiles: whether MLX compiles otherwise; it can't be asked.
    """
    mx.disable_compile()
    before = _uncompiled.set(True)
    try:
        yield
    finally:
        _uncompiled.reset(before)
        if compiles:
            mx.enable_compile()


@cache
def compiler_works(system: str = sys.platform, run: RunProgram = subprocess.run) -> bool:
    """Whether g++ makes a shared library."""
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name, "probe.cpp"), Path(name, "probe.so")
        source.write_text(PROBE)
        command = ["g++", "-std=c++17", "-fPIC", "-shared", str(source), "-o", str(library)]
        try:
            if system == "darwin" and run(DEVELOPER_TOOLS, **QUIET).returncode != 0:
                return False
            return run(command, **QUIET).returncode == 0 and library.exists()
        except (OSError, subprocess.SubprocessError):
            return False
