"""One kernel for a residual addition and the norm after it: its text, its launch, who takes it.

No GPU is here, so threads of this machine run the text of both languages as C++: shared memory,
barriers and sums over 32 threads as a GPU has them.
"""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.machine.random_model import random_lm
from app.selftest import probe
from app.selftest.models import Twins
from app.selftest.steps import ForcedSteps
from benchmarks.graph import RESIDUAL_NORM, residual_norm
from benchmarks.shapes import raw_config
from benchmarks.step_graph import frame_of
from moshi_mlx.backend.compiler import compiler_works
from moshi_mlx.backend.residual_norm import (
    CUDA,
    METAL,
    MOST_THREADS,
    Dialect,
    FusedResidualNorm,
    Launch,
    composed,
    kernel_for,
    take,
    taken,
    taking,
)
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm

EPS = 1e-8
AS_CPP = """
#include <barrier>
#include <cmath>
#include <cstddef>
#include <thread>
#include <vector>
using T = float;
constexpr int C = %(C)d, PER = %(PER)d, GROUPS = %(GROUPS)d, THREADS = GROUPS * 32;
static std::barrier<> meet(THREADS);
static float told[THREADS];
static thread_local int me;
static float simd_sum(float value) {
    told[me] = value;
    meet.arrive_and_wait();
    float sum = 0;
    for (int i = me / 32 * 32; i < me / 32 * 32 + 32; i++) sum += told[i];
    meet.arrive_and_wait();
    return sum;
}
static float __shfl_xor_sync(unsigned, float value, int apart) {
    told[me] = value;
    meet.arrive_and_wait();
    float other = told[me ^ apart];
    meet.arrive_and_wait();
    return other;
}
static float rsqrtf(float x) { return 1 / std::sqrt(x); }
namespace metal { namespace precise { static float rsqrt(float x) { return rsqrtf(x); } } }
enum class mem_flags { mem_threadgroup };
struct Index { unsigned x; };
static void __syncthreads() { meet.arrive_and_wait(); }
static void threadgroup_barrier(mem_flags) { __syncthreads(); }
#define __device__
#define __shared__ static
#define threadgroup static
%(header)s
static void kernel(const T* residual, const T* branch, const T* weight, T* total, T* normed,
                   Index thread_position_in_threadgroup, Index threadgroup_position_in_grid) {
    Index threadIdx = thread_position_in_threadgroup, blockIdx = threadgroup_position_in_grid;
    (void)threadIdx, (void)blockIdx;
%(source)s
}
extern "C" void run(const T* residual, const T* branch, const T* weight, T* total, T* normed,
                    unsigned rows) {
    for (unsigned row = 0; row < rows; row++) {
        std::vector<std::thread> threads;
        for (unsigned lane = 0; lane < THREADS; lane++)
            threads.emplace_back([=] {
                me = lane;
                kernel(residual, branch, weight, total, normed, {lane}, {row});
            });
        for (auto& thread : threads) thread.join();
    }
}
"""


class CppBuild:
    """MLX's builder of kernels, for C++: keeps what it was given, and runs it here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.built, self.called = folder, [], []

    def __call__(self, **kernel: Any) -> "CppBuild":
        self.built.append(kernel)
        self.kernel = kernel
        return self

    # What the built kernel is called with. One object for both, since a test builds one.
    def run(self, inputs: Sequence[mx.array], template: Any, **launch: Any) -> list[mx.array]:
        self.called.append({"template": dict(template), **launch})
        sizes = dict(template) | {k: self.kernel[k] for k in ("header", "source")}
        source, library = self.folder / "kernel.cpp", self.folder / "kernel.so"
        source.write_text(AS_CPP % sizes)
        command = ["g++", "-std=c++20", "-O1", "-Wall", "-Werror", "-Wno-unused-function"]
        command += ["-fPIC", "-shared", "-pthread", str(source), "-o", str(library)]
        subprocess.run(command, check=True)
        given = [np.ascontiguousarray(array) for array in inputs]
        made = [np.zeros(shape, np.float32) for shape in launch["output_shapes"]]
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*given, *made)]
        ctypes.CDLL(str(library)).run(*pointers, given[0].shape[0])
        return [mx.array(array) for array in made]


def built(dialect: Dialect, folder: Path) -> tuple[FusedResidualNorm, CppBuild]:
    build = CppBuild(folder)
    return FusedResidualNorm(lambda **kernel: build(**kernel).run, dialect), build


@pytest.mark.skipif(not compiler_works(), reason="there is no C++ compiler that works")
@pytest.mark.parametrize(
    ("dialect", "R", "C"),
    [(METAL, 2, 1000), (CUDA, 2, 1000), (CUDA, 1, 100)],  # the last: one group of threads
    ids=["metal", "cuda", "cuda, narrow"],
)
def test_its_text_computes_sum_and_norm(dialect: Dialect, R: int, C: int, tmp_path: Path) -> None:
    kernel, build = built(dialect, tmp_path)
    of = np.random.RandomState(C)
    residual, branch = (mx.array(of.standard_normal((R, C)).astype(np.float32)) for _ in range(2))
    weight = mx.array(of.standard_normal(C).astype(np.float32))
    ours = kernel(residual, branch, weight, EPS)
    for a, b in zip(ours, composed(residual, branch, weight, EPS), strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=2e-6, atol=2e-6)
    (called,) = build.called
    threads = called["threadgroup"][0]
    assert called["grid"] == (R * threads, 1, 1) and threads == 32 * called["template"]["GROUPS"]
    assert called["template"]["T"] == mx.float32


@pytest.mark.parametrize("C", [1, 31, 128, 129, 1000, 1024, 2816, 4096, 6144, 100_000])
def test_the_launch_covers_every_number_once(C: int) -> None:
    launch = Launch.of(3, C)
    threads = launch.threadgroup[0]
    assert threads % 32 == 0 and threads <= MOST_THREADS and launch.grid[0] == 3 * threads
    assert threads == 32 * launch.groups and launch.groups <= 32  # as many partial sums
    assert threads * launch.per_thread >= C
    if C <= 4 * MOST_THREADS:
        assert launch.per_thread <= 4


def test_nothing_to_compute_is_refused() -> None:
    for R, C in ((0, 4), (1, 0)):
        with pytest.raises(ValueError, match="no kernel for"):
            Launch.of(R, C)


def test_the_texts_are_whole_and_of_their_language() -> None:
    for dialect, own, others in (
        (METAL, ("simd_sum", "threadgroup float", "metal::precise::rsqrt"), ("blockIdx",)),
        (CUDA, ("sum_of_warp", "__shared__ float", "blockIdx.x"), ("simd_sum", "metal::")),
    ):
        text = dialect.source(1e-5)
        assert "1.000000000e-05f" in text and text.count("{") == text.count("}")
        assert all(part in text for part in own) and not any(part in text for part in others)
        assert not any(name in text for name in ("{PLACE}", "{SUM}", "{EPS}", "{BARRIER}"))
    assert "__shfl_xor_sync" in CUDA.header and not METAL.header


def test_a_kernel_is_built_once_for_each_eps() -> None:
    names: list[str] = []

    def build(**kernel: Any) -> Any:
        names.append(kernel["name"])
        return lambda inputs, **launch: [inputs[0], inputs[1]]

    kernel, x = FusedResidualNorm(build, METAL), mx.zeros((1, 8))
    for eps in (1e-8, 1e-8, 1e-5, 1e-8):
        kernel(x, x, x[0], eps)
    assert len(names) == len(set(names)) == 2


@pytest.mark.parametrize(
    ("gpu", "metal", "expected"),
    [(True, True, "metal"), (True, False, "cuda"), (False, False, None), (False, True, None)],
)
def test_which_kernel_a_device_has(gpu: bool, metal: bool, expected: str | None) -> None:
    used: list[str] = []

    def builder(name: str) -> Any:
        def build(**kernel: Any) -> Any:
            used.append(name)
            return lambda inputs, **launch: [inputs[0], inputs[1]]

        return build

    kernel = kernel_for(gpu, metal, builder("metal"), builder("cuda"))
    assert (kernel is None) == (expected is None)
    if kernel is not None:
        x = mx.zeros((1, 8))
        kernel(x, x, x[0], EPS)
        assert used == [expected]


def lm(recipe: str, width: int = 128) -> Lm:
    return random_lm(parse_config(raw_config(width, 4)), recipe, "float32")


# Kyutai's moshi_mlx has 1,480 in 4 bit and 1,530 in float32: 0.55 and 0.53 of them.
@pytest.mark.parametrize(("recipe", "fused", "kernels"), [("q4", 152, 815), ("fp32", 0, 805)])
def test_kernels_of_a_frame_with_it(recipe: str, fused: int, kernels: int) -> None:
    """In float32 the product before adds the residual already: nothing is left to join."""
    with taking(residual_norm):
        found, _ = frame_of(lm(recipe)).counts()
    assert found.get(RESIDUAL_NORM, 0) == fused
    assert sum(found.values()) <= kernels


def test_without_it_a_frame_has_none() -> None:
    assert taken() is None
    found, _ = frame_of(lm("q4")).counts()
    assert RESIDUAL_NORM not in found and sum(found.values()) <= 967


@pytest.mark.parametrize("options", [{}, {"batch": 2, "seed": [0, 1]}, {"cfg_coef": 2.0}])
def test_a_talk_says_the_same_with_it(options: dict[str, Any]) -> None:
    """With a kernel that computes as MLX does: what is added and normed where is right."""
    raw = raw_config(128, 4) | {"num_layers": 2, "depformer_num_layers": 2, "context": 16}
    said, settings = [], {"seed": 0, "compiled": False} | options
    for kernel in (None, composed):
        with taking(kernel):
            model = random_lm(parse_config(raw), "q4", "float32")
        talk = model.generator(**settings)
        rows = (2, model.config.user_q) if "batch" in options else (model.config.user_q,)
        steps = [talk.step(np.zeros(rows, np.int32)) for _ in range(4)]
        each = [step if isinstance(step, list | tuple) else [step] for step in steps]
        said.append([[(s.text_token, *s.sampled) for s in step] for step in each])
    assert said[0] == said[1]


@pytest.mark.parametrize("shape", [probe.SMALL_TALKER, probe.READER], ids=["talker", "reader"])
def test_logits_are_the_same_with_it(shape: dict[str, Any]) -> None:
    """To the last bit; the reader attends to a voice between its two norms."""
    twins, logits = Twins(shape, "q4"), []
    for kernel in (None, composed):
        with taking(kernel):
            model = twins.quantized(mx.float32)
        given = None
        if model.config.conditioners:
            voice = (probe.voice(model.config), [1.0] * probe.VOICE_STEPS)
            given = model.conditions({"mood": "glad", "voice": voice})
        tokens = probe.tokens(model.config, 3, "tokens"), probe.known(model.config, 3, "known")
        logits.append(ForcedSteps(model, given=given).run(*tokens))
    np.testing.assert_array_equal(logits[0].text, logits[1].text)
    np.testing.assert_array_equal(logits[0].audio, logits[1].audio)


def test_only_models_made_while_it_is_taken_have_it() -> None:
    with taking(composed):
        assert taken() is composed
    assert taken() is None
    take(composed)
    take(None)
    assert taken() is None
