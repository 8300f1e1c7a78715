"""One kernel for a residual addition and the norm after it: equal to the two, and faster here?

It is off until this says both (`moshi_mlx/backend/residual_norm.py`). One that isn't equal, or no
faster, is no fault of the machine: it stays off. Shapes: R rows, C width.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.backend.residual_norm import ResidualNorm, composed, kernel_here

from .. import probe
from ..examine import reason_of
from ..part import NONE, RESIDUAL_NORM, Deviation, Fallback, FasterWay, Note, NotHereError
from ..site import DTYPES, Site, apart, host
from .rounding import OF_NORM

EPS = 1e-8
SIZES = ((1, 4096), (1, 1024), (1, 2048), (4, 4096), (2, 1000), (1, 160), (1, 6144))  # R, C
PAIRS, C = 152, 4096  # of a frame of the 7B in 4 bit, at its temporal width
ROUNDS = 15
FASTER = 0.95  # of the two operations' time


def milliseconds(of: ResidualNorm, weights: list[mx.array], x: mx.array) -> float:
    """A chain of additions and norms, each waiting for the one before, as in a frame."""

    def chain(total: mx.array, branch: mx.array, weights: list[mx.array]) -> mx.array:
        for weight in weights:
            total, branch = of(total, branch, weight, EPS)
        return branch

    run = mx.compile(chain)
    mx.eval(run(x, x, weights))  # compiles
    start = time.perf_counter()
    mx.eval(run(x, x, weights))
    return 1000 * (time.perf_counter() - start)


@dataclass(frozen=True)
class ResidualNormCheck:
    """`kernel`: what is tried, None where the device has none; `time`: of a frame's pairs in ms."""

    kernel: Callable[[], ResidualNorm | None] = kernel_here
    time: Callable[[ResidualNorm, list[mx.array], mx.array], float] = milliseconds
    name: str = RESIDUAL_NORM
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation | Note | FasterWay]:
        kernel = self.kernel()
        if kernel is None:
            raise NotHereError("one kernel for both is for a GPU alone")
        found = []
        try:
            for R, width in SIZES:
                for kind, dtype in DTYPES.items():
                    found += self.compared(site, kernel, (R, width), kind, dtype)
        except (RuntimeError, ValueError) as error:  # it doesn't compile, most likely
            yield Note(f"one kernel for both doesn't run and stays off: {reason_of(error)}")
            return
        worst = max(found, key=lambda deviation: deviation.share)
        if not worst.ok:
            yield Note(f"one kernel for both differs and stays off: {worst.what}, {worst.off:.1e}")
            return
        yield worst
        yield from self.timed(site, kernel)

    def compared(
        self, site: Site, kernel: ResidualNorm, size: tuple[int, int], kind: str, dtype: mx.Dtype
    ) -> list[Deviation]:
        """Sum and norm of one size against MLX's two operations on the same device."""
        R, width = size
        of = probe.random(f"residual {R} {width}")
        with site.under_test():
            residual, branch = (
                mx.array(of.standard_normal(size).astype(np.float32)).astype(dtype)
                for _ in range(2)
            )
            weight = mx.array(probe.drawn("norm", (width,), "norm")).astype(dtype)
            given = (residual, branch, weight, EPS)
            ours, right = ([host(a) for a in made(*given)] for made in (kernel, composed))
        what = f"{kind}, {R} x {width}"
        return [
            Deviation(f"{name}, {what}", apart(a, b), OF_NORM[kind])
            for name, a, b in zip(("sum", "norm"), ours, right, strict=True)
        ]

    def timed(self, site: Site, kernel: ResidualNorm) -> Iterator[Note | FasterWay]:
        """Both in turns, so that what else the machine does befalls both."""
        with site.under_test():
            x = mx.array(probe.as_bf16(np.ones((1, C)))).astype(mx.bfloat16)
            weights = [mx.ones(C, mx.bfloat16) + 0 for _ in range(PAIRS)]
            mx.eval(weights)
            pairs = [
                (self.time(kernel, weights, x), self.time(composed, weights, x))
                for _ in range(ROUNDS)
            ]
        ratio = statistics.median(ours / two for ours, two in pairs)
        ours_ms = statistics.median(ours for ours, _ in pairs)
        if ratio < FASTER:
            yield FasterWay(RESIDUAL_NORM)
        used = "used from now on" if ratio < FASTER else "stays off"
        yield Note(f"{ours_ms:.2f} ms for {PAIRS}, {ratio:.2f} x of two kernels each: {used}")
