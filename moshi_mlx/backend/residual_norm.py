"""A residual addition and the RMSNorm after it in one kernel of a GPU, where MLX has two.

A frame in 4 bit has 152 such pairs. Whether one kernel computes the same and is faster can only be
told on the GPU itself: `moshi selftest` tries it there, and it is off until that says so. On a CPU
there is none, and nothing of a frame's graph changes.
One threadgroup (CUDA: block) has a row. The sum is rounded to its dtype before it is squared, and
sums and the root are float32, as in MLX's own kernels (mlx/backend/metal/kernels/rms_norm.metal).
Shapes: R rows, C width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from .device import on_gpu

SIMD = 32  # threads that add without a barrier: Metal's SIMD groups, CUDA's warps
MOST_THREADS = 1024
READS = 4  # numbers of a thread, one after the other, as MLX's kernel reads them

# What stands in braces and capitals is a dialect's; T, C, PER and GROUPS are the template's.
BODY = """
    {PLACE}
    {SHARED} float partial[32];
    T kept[PER];
    float squares = 0;
    for (int i = 0; i < PER; i++) {
        int c = lane * PER + i;
        if (c < C) {
            float a = static_cast<float>(residual[row * C + c]);
            float b = static_cast<float>(branch[row * C + c]);
            kept[i] = static_cast<T>(a + b);
            total[row * C + c] = kept[i];
            float value = static_cast<float>(kept[i]);
            squares += value * value;
        }
    }
    squares = {SUM}(squares);
    if (lane % 32 == 0) {
        partial[lane / 32] = squares;
    }
    {BARRIER};
    squares = {SUM}(lane % 32 < GROUPS ? partial[lane % 32] : 0.0f);
    float factor = {RSQRT}(squares / C + {EPS}f);
    for (int i = 0; i < PER; i++) {
        int c = lane * PER + i;
        if (c < C) {
            T scaled = static_cast<T>(static_cast<float>(kept[i]) * factor);
            normed[row * C + c] = static_cast<T>(
                static_cast<float>(weight[c]) * static_cast<float>(scaled));
        }
    }
"""
CUDA_SUM = """
__device__ inline float sum_of_warp(float value) {
    for (int apart = 16; apart > 0; apart /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, apart);
    }
    return value;
}
"""

Kernel = Callable[..., Sequence[mx.array]]
Build = Callable[..., Any]  # mx.fast.metal_kernel and cuda_kernel: a Kernel, which MLX calls object
# residual [R, C], branch [R, C], weight [C], eps -> their sum and its norm
ResidualNorm = Callable[[mx.array, mx.array, mx.array, float], tuple[mx.array, mx.array]]


@dataclass(frozen=True)
class Dialect:
    """What differs between the two languages."""

    place: str
    shared: str
    sum: str
    barrier: str
    rsqrt: str
    header: str = ""

    def source(self, eps: float) -> str:
        """The kernel's body for one eps."""
        text = BODY
        parts = {"PLACE": self.place, "SHARED": self.shared, "SUM": self.sum}
        parts |= {"BARRIER": self.barrier, "RSQRT": self.rsqrt, "EPS": f"{eps:.9e}"}
        for name, part in parts.items():
            text = text.replace("{" + name + "}", part)
        return text


METAL = Dialect(
    place="int lane = thread_position_in_threadgroup.x; "
    "size_t row = threadgroup_position_in_grid.x;",
    shared="threadgroup",
    sum="simd_sum",
    barrier="threadgroup_barrier(mem_flags::mem_threadgroup)",
    rsqrt="metal::precise::rsqrt",
)
CUDA = Dialect(
    place="int lane = threadIdx.x; size_t row = blockIdx.x;",
    shared="__shared__",
    sum="sum_of_warp",
    barrier="__syncthreads()",
    rsqrt="rsqrtf",
    header=CUDA_SUM,
)


@dataclass(frozen=True)
class Launch:
    """How R rows of C numbers are spread over threads. `grid` counts threads."""

    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    per_thread: int
    groups: int  # SIMD groups of a row

    @classmethod
    def of(cls, R: int, C: int) -> "Launch":
        """Raises ValueError for nothing to compute."""
        if R < 1 or C < 1:
            raise ValueError(f"no kernel for {R} rows of {C} numbers")
        groups = -(-C // (READS * SIMD))
        groups = min(groups, MOST_THREADS // SIMD)
        threads = groups * SIMD
        return cls((R * threads, 1, 1), (threads, 1, 1), -(-C // threads), groups)


class FusedResidualNorm:
    """The kernel, built once for each eps. `build`: MLX's function for the dialect."""

    def __init__(self, build: Build, dialect: Dialect) -> None:
        self._build, self._dialect = build, dialect
        self._kernels: dict[float, Kernel] = {}

    def __call__(
        self, residual: mx.array, branch: mx.array, weight: mx.array, eps: float
    ) -> tuple[mx.array, mx.array]:
        """[R, C] twice, [C] -> residual + branch and its norm times the weight, [R, C] each."""
        R, C = residual.shape
        launch = Launch.of(R, C)
        total, normed = self._kernel(eps)(
            inputs=[residual, branch, weight],
            template=[
                ("T", residual.dtype),
                *(("C", C), ("PER", launch.per_thread), ("GROUPS", launch.groups)),
            ],
            grid=launch.grid,
            threadgroup=launch.threadgroup,
            output_shapes=[residual.shape, residual.shape],
            output_dtypes=[residual.dtype, residual.dtype],
        )
        return total, normed

    def _kernel(self, eps: float) -> Kernel:
        if eps not in self._kernels:
            self._kernels[eps] = self._build(
                name=f"residual_norm_{len(self._kernels)}",
                input_names=["residual", "branch", "weight"],
                output_names=["total", "normed"],
                source=self._dialect.source(eps),
                header=self._dialect.header,
            )
        return self._kernels[eps]


def composed(
    residual: mx.array, branch: mx.array, weight: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """The same as two operations of MLX, on any device."""
    total = residual + branch
    return total, mx.fast.rms_norm(total, weight, eps)


def kernel_for(
    gpu: bool,
    metal: bool,
    build_metal: Build = mx.fast.metal_kernel,
    build_cuda: Build = mx.fast.cuda_kernel,
) -> FusedResidualNorm | None:
    """The kernel for a device; None for a CPU."""
    if not gpu:
        return None
    return FusedResidualNorm(build_metal, METAL) if metal else FusedResidualNorm(build_cuda, CUDA)


def kernel_here() -> FusedResidualNorm | None:
    """The kernel for MLX's default device."""
    return kernel_for(on_gpu(), mx.metal.is_available())


class _Taken:
    """What models that are made from now on take."""

    kernel: ResidualNorm | None = None


def take(kernel: ResidualNorm | None) -> None:
    """Have models made from now on in this process use a kernel; None: MLX's two operations."""
    _Taken.kernel = kernel


def taken() -> ResidualNorm | None:
    """The kernel that a model is to use, if any."""
    return _Taken.kernel


@contextmanager
def taking(kernel: ResidualNorm | None) -> Iterator[None]:
    """As `take`, for models that are made while this holds."""
    before = taken()
    take(kernel)
    try:
        yield
    finally:
        take(before)
