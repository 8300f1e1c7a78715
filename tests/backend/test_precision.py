"""Products of float32 in full precision, asked for before MLX's first one."""

import os
import subprocess
import sys

import pytest

from moshi_mlx.backend.precision import VARIABLE, exact_float32

PARTS = {
    "a language model": "moshi_mlx.load_lm('nano')",
    "a codec": "moshi_mlx.load_mimi(NANO / 'mimi.safetensors')",
    "a part of the self-test": "child.main(['products'])",
    "quantize": "main(['quantize', '/nowhere/at-all', '/tmp/x'])",
}
SCRIPT = """
import os, sys
import mlx.core as mx
import moshi_mlx
from app.cli import main
from app.selftest import child
from moshi_mlx.errors import MoshiError
from moshi_mlx.hub import NANO
first = []
multiply = mx.array.__matmul__
mx.array.__matmul__ = lambda a, b: (first.append(os.environ.get("{variable}")), multiply(a, b))[1]
try:
    {part}
except (MoshiError, SystemExit):
    pass
print([os.environ.get("{variable}"), *first[:1]])
"""


@pytest.mark.parametrize("part", PARTS)
def test_it_is_asked_for_before_the_first_product(part: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    script = SCRIPT.format(variable=VARIABLE, part=PARTS[part])
    run = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert set(eval(run.stdout.splitlines()[-1])) == {"0"}


def test_what_a_user_has_set_stays() -> None:
    own = {VARIABLE: "1"}
    exact_float32(own)
    assert own == {VARIABLE: "1"}
    none: dict[str, str] = {}
    exact_float32(none)
    assert none == {VARIABLE: "0"}


def test_these_tests_run_with_it() -> None:
    assert os.environ[VARIABLE] in ("0", "1")
