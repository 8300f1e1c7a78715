"""The self-test's part of one kernel for addition and norm: when it is taken, and when it isn't."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from app.options.gains import take_gains
from app.selftest.child import from_json, to_json
from app.selftest.examine import examine
from app.selftest.part import NOT_HERE, OK, RESIDUAL_NORM, PartResult
from app.selftest.parts.residual import ResidualNormCheck, milliseconds
from app.selftest.remembered import SelftestOutcome, outcome_of, recall, remember
from app.selftest.site import Site
from moshi_mlx.backend.residual_norm import ResidualNorm, composed, take, taken

KEY = {"system": "Darwin 15.5", "chip": "Apple M2", "mlx": "0.32.4", "moshi_local": "0.1.0"}


def norm_of_the_residual(
    residual: mx.array, branch: mx.array, weight: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """A kernel that forgets what was added."""
    return residual + branch, mx.fast.rms_norm(residual, weight, eps)


def broken(*given: Any) -> tuple[mx.array, mx.array]:
    raise RuntimeError("error: use of undeclared identifier 'simd_sum' in /Users/ada/x.metal\nmore")


def check(kernel: ResidualNorm, ours_ms: float, two_ms: float = 2.0) -> PartResult:
    def time(of: ResidualNorm, weights: list[mx.array], x: mx.array) -> float:
        return ours_ms if of is kernel else two_ms

    return examine(ResidualNormCheck(kernel=lambda: kernel, time=time), Site.here())


def same(*given: Any) -> tuple[mx.array, mx.array]:
    return composed(*given)


@pytest.mark.parametrize(
    ("kernel", "ours_ms", "gains", "note"),
    [
        (same, 1.0, (RESIDUAL_NORM,), "1.00 ms for 152, 0.50 x of two kernels each: used from"),
        (same, 1.99, (), "1.99 ms for 152, 0.99 x of two kernels each: stays off"),
        (norm_of_the_residual, 1.0, (), "differs and stays off: norm, "),
        (broken, 1.0, (), "doesn't run and stays off: RuntimeError: error: use of undeclared"),
    ],
    ids=["faster", "no faster", "another result", "broken"],
)
def test_it_is_taken_only_where_it_is_equal_and_faster(
    kernel: ResidualNorm, ours_ms: float, gains: tuple[str, ...], note: str
) -> None:
    """And one that isn't is no fault of the machine."""
    result = check(kernel, ours_ms)
    assert result.status == OK and result.gains == gains
    assert note in result.notes[0] and "ada" not in result.notes[0]
    assert from_json(to_json(result)) == result


def test_a_cpu_has_no_such_kernel() -> None:
    result = examine(ResidualNormCheck(kernel=lambda: None), Site.here())
    assert result.status == NOT_HERE and "GPU" in result.why


def test_the_time_is_of_a_frames_worth_of_them() -> None:
    x, calls = mx.ones((1, 64)), []

    def counted(*given: Any) -> tuple[mx.array, mx.array]:
        calls.append(given)
        return composed(*given)

    assert milliseconds(counted, [x[0]] * 5, x) > 0
    assert len(calls) == 5  # traced once, run twice


def take_from(outcome: SelftestOutcome | None, kernel: Callable[[], Any]) -> ResidualNorm | None:
    try:
        take_gains(outcome, kernel)
        return taken()
    finally:
        take(None)


def test_what_was_faster_is_remembered_and_taken(tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    remember(outcome_of([check(same, 1.0)]), path, KEY)
    found = recall(path, KEY)
    assert found is not None and found.gains == (RESIDUAL_NORM,)
    assert take_from(found, lambda: same) is same
    remember(outcome_of([check(same, 2.0)]), path, KEY)
    for outcome in (None, recall(path, KEY), SelftestOutcome("x", 1, gains=("another",))):
        assert take_from(outcome, lambda: same) is None
    assert take_from(found, lambda: None) is None  # the GPU is gone: a CPU has none
