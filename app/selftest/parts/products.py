"""Matrix products, plain and quantized, against numpy in double precision.

Shapes: M rows of x, K its width, N outputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.weights.recipes import AFFINE_GROUPS, RECIPES, Format

from .. import packed_numbers, probe
from ..models import Twins
from ..part import NONE, OTHER_RECIPE, Deviation, Fallback
from ..site import DTYPES, Site, apart, host
from ..steps import ForcedSteps, Logits
from .rounding import OF_CPU_QUANTIZED, OF_MODEL, OF_ROW, OF_SUM

SIZES = ((256, 64), (704, 256), (2048, 128))  # K, N: widths of the 7B's kinds, shorter
ROWS = (1, 8)  # a frame's product, and one of a sequence: other kernels on a GPU
STEPS = 4
LONGEST_OF_HALVES = 256  # MLX's CPU backend adds products of quantized weights in halves
GROUPS = {label: AFFINE_GROUPS for label in ("q8", "q6", "q5", "q4", "q3")}


def inputs(M: int, K: int, dtype: mx.Dtype) -> tuple[mx.array, np.ndarray]:
    """x [M, K], in float32 with all of its bits, and what it is exactly."""
    drawn = probe.random(f"x {M} {K}").standard_normal((M, K))
    x = mx.array(drawn.astype(np.float32)).astype(dtype)
    return x, host(x).astype(np.float64)


def multiply(x: mx.array, weight: mx.array) -> mx.array:
    """x [M, K] and weight [N, K] -> [M, N]."""
    return x @ weight.T


@dataclass(frozen=True)
class ProductCheck:
    """Products and sums of them in float32 and halves."""

    multiply: Callable[[mx.array, mx.array], mx.array] = multiply
    name: str = "products"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        for kind, dtype in DTYPES.items():
            for K, N in SIZES:
                for M in ROWS:
                    yield self.one(site, kind, dtype, (M, K, N))

    def one(self, site: Site, kind: str, dtype: mx.Dtype, size: tuple[int, int, int]) -> Deviation:
        M, K, N = size
        with site.under_test():
            drawn = probe.random(f"weight {N} {K}").standard_normal((N, K)) * K**-0.5
            weight = mx.array(drawn.astype(np.float32)).astype(dtype)
            x, right = inputs(M, K, dtype)
            product = self.multiply(x, weight)
            found = host(product), host(mx.addmm(product, x, weight.T))
        right = right @ host(weight).astype(np.float64).T
        off = max(apart(found[0], right), apart(found[1], host(product) + right))
        return Deviation(f"{kind} [{M}, {K}] x [{K}, {N}]", off, OF_SUM[kind])


def as_told(chosen: Format) -> Format:
    return chosen


@dataclass(frozen=True)
class RecipeCheck:
    """A recipe's format: its products in every group size, and steps of a whole model in it."""

    recipe: str
    told: Callable[[Format], Format] = as_told  # what the product is told of its weights
    fallback: Fallback = OTHER_RECIPE

    @property
    def name(self) -> str:
        return self.recipe

    def check(self, site: Site) -> Iterator[Deviation]:
        chosen = RECIPES[self.recipe].rules[-1][1]
        assert chosen is not None
        for group in GROUPS.get(self.recipe, (chosen.group_size,)):
            for K, N in SIZES:
                if K % group == 0:
                    sized = Format(chosen.bits, group, chosen.mode)
                    yield from self.product(site, sized, K, N)
        yield from self.model(site)

    def product(self, site: Site, chosen: Format, K: int, N: int) -> Iterator[Deviation]:
        parts = packed_numbers.quantized(probe.drawn("weight", (N, K), f"{N} {K}"), chosen)
        numbers = packed_numbers.unpacked(parts, chosen).astype(np.float64)
        told = self.told(chosen)
        allowed = OF_SUM if site.on_gpu else OF_CPU_QUANTIZED
        for kind, dtype in DTYPES.items():
            if kind != "fp32" and K > LONGEST_OF_HALVES and not site.on_gpu:
                continue
            for M in ROWS:
                with site.under_test():
                    x, right = inputs(M, K, dtype)
                    arrays = {name: mx.array(part) for name, part in parts.items()}
                    if told.mode == "affine":
                        arrays |= {n: arrays[n].astype(dtype) for n in ("scales", "biases")}
                    found = mx.quantized_matmul(
                        x,
                        arrays["weight"],
                        arrays["scales"],
                        arrays.get("biases"),
                        group_size=told.group_size,
                        bits=told.bits,
                        mode=told.mode,
                    )
                    ours = host(found)
                what = f"{kind}, groups of {chosen.group_size}, [{M}, {K}] x [{K}, {N}]"
                yield Deviation(what, apart(ours, right @ numbers.T), allowed[kind])

    def model(self, site: Site) -> Iterator[Deviation]:
        """Its tables, joined matrices and products together."""
        twins = Twins(probe.SMALL_TALKER, self.recipe)
        with site.judge():
            right = run(ForcedSteps(twins.plain()))
        kinds = ("fp32", "bf16") if site.on_gpu else ("fp32",)
        rows_are_bf16 = self.recipe not in GROUPS
        for kind in kinds:
            with site.under_test():
                ours = run(ForcedSteps(twins.quantized(DTYPES[kind])))
            allowed = OF_MODEL[kind] + (OF_ROW if rows_are_bf16 else 0)
            yield Deviation(
                f"steps of a model, {kind}, text", apart(ours.text, right.text), allowed
            )
            yield Deviation(
                f"steps of a model, {kind}, codes", apart(ours.audio, right.audio), allowed
            )


def run(steps: ForcedSteps) -> Logits:
    config = steps.lm.config
    inputs = probe.tokens(config, STEPS, "recipe")
    return steps.run(inputs, probe.known(config, STEPS, "recipe known"))
