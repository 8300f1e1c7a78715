"""When MLX is told to compile, and which programs are run to find out."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.backend.compiler import can_compile, compiler_works, uncompiled


class Programs:
    """What runs programs; g++ writes its library where its status is 0."""

    def __init__(self, **statuses: int) -> None:
        self.statuses, self.run = statuses, []

    def __call__(
        self, command: Sequence[str], **options: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        name = Path(command[0]).name
        self.run.append(name)
        status = self.statuses[{"g++": "compiler", "xcode-select": "tools"}[name]]
        if name == "g++" and status == 0:
            Path(command[-1]).touch()
        return subprocess.CompletedProcess(command, status)


@pytest.mark.parametrize(
    ("system", "programs", "run", "works"),
    [
        ("darwin", Programs(tools=2, compiler=1), ["xcode-select"], False),
        ("darwin", Programs(tools=0, compiler=0), ["xcode-select", "g++"], True),
        ("darwin", Programs(tools=0, compiler=69), ["xcode-select", "g++"], False),
        ("linux", Programs(compiler=0), ["g++"], True),
        ("linux", Programs(compiler=1), ["g++"], False),
    ],
)
def test_a_macs_compiler_is_asked_only_where_apples_tools_are(
    system: str, programs: Programs, run: list[str], works: bool
) -> None:
    """There g++ alone would open a window that offers them."""
    assert compiler_works(system, programs) is works
    assert programs.run == run


def test_a_program_that_is_not_there_is_no_compiler() -> None:
    def missing(command: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[bytes]":
        raise FileNotFoundError(command[0])

    assert not compiler_works("linux", missing)


def test_a_gpu_asks_no_compiler() -> None:
    assert can_compile(gpu=True, works=lambda: pytest.fail("asked"))


@pytest.mark.parametrize("works", [True, False])
def test_a_cpu_compiles_where_its_compiler_works_and_else_mlx_is_told(works: bool) -> None:
    traces: list[int] = []

    @mx.compile
    def seven() -> mx.array:
        traces.append(1)
        return mx.array(7)  # nothing that a compiler would be called for

    before = can_compile()
    try:
        if before:
            mx.enable_compile()
        assert can_compile(gpu=False, works=lambda: works) is works
        for _ in range(2):
            mx.eval(seven())
        assert len(traces) == (1 if works and before else 2)
    finally:
        if before:
            mx.enable_compile()


def test_uncompiled_holds_as_long_as_it_is_asked_for() -> None:
    traces: list[int] = []

    @mx.compile
    def double(x: mx.array) -> mx.array:
        traces.append(1)
        return x + x

    before = can_compile()
    with uncompiled(before):
        assert not can_compile()
        for _ in range(2):
            mx.eval(double(mx.ones(3)))
    assert len(traces) == 2 and can_compile() is before
