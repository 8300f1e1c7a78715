"""Whether MLX can compile functions here.

MLX's CPU backend calls a C++ compiler for compiled functions, mlx.nn's activations among them. It
only asks whether `g++ --version` runs: a compiler that is there and fails would end a frame, so
that one is tried out first, and without it everything runs uncompiled.
"""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import mlx.core as mx


def can_compile() -> bool:
    """Always on a GPU, on the CPU with a C++ compiler that works; if not, MLX is told so too."""
    if mx.default_device() != mx.Device(mx.cpu):
        return True
    if not compiler_works():
        mx.disable_compile()
        return False
    return True


@cache
def compiler_works() -> bool:
    """Whether g++ makes a shared library."""
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name, "probe.cpp"), Path(name, "probe.so")
        source.write_text("#include <cmath>\ndouble probe(double x) { return std::exp(x); }\n")
        command = ["g++", "-std=c++17", "-fPIC", "-shared", str(source), "-o", str(library)]
        try:
            run = subprocess.run(command, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return False
        return run.returncode == 0 and library.exists()
