"""Every part of the self-test on this CPU: right, by what rounding, and what goldens rest on."""

import math
from functools import cache

import mlx.core as mx
import numpy as np
import pytest

from app.selftest import goldens, packed_numbers, probe
from app.selftest.examine import examine
from app.selftest.part import OK, Deviation
from app.selftest.parts.rounding import OF_MODEL
from app.selftest.parts.talks import BATCH, GREEDY, GUIDANCE, BatchCheck
from app.selftest.site import Site
from app.selftest.table import parts
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.loading import load_lm
from moshi_mlx.weights.recipes import AFFINE_BITS, AFFINE_GROUPS, MODES, Format

BY_NAME = {part.name: part for part in parts()}
GOLDEN_MOST_BYTES = 300_000


@cache
def here() -> Site:
    return Site.here()


# What only a GPU shows is run both ways elsewhere: test_gpu_parts.py, test_residual_norm.py.
GPUS = ("warm-up", "one wait a frame", "memory of a talk", "residual and norm", "memory limits")
GPUS += ("speed", "after a pause")
NUMBERS = [n for n in BY_NAME if n not in GPUS]


@pytest.mark.parametrize("name", NUMBERS)
def test_each_part_is_right_here(name: str) -> None:
    """And rounding is what the bounds were taken from: a share of them, but no vanishing one."""
    found = [d for d in BY_NAME[name].check(here()) if isinstance(d, Deviation)]
    assert found
    for deviation in found:
        assert deviation.ok, deviation
        assert deviation.unit or not deviation.allowed or deviation.share < 0.5, deviation
    rounded = [d for d in found if d.allowed and d.off > 0 and not d.unit]
    if rounded and max(d.allowed for d in rounded) < 0.5:
        assert max(d.share for d in rounded) > 0.001


def test_names_are_one_each_and_short() -> None:
    assert len(BY_NAME) == len(parts())
    assert all(len(name) <= 28 for name in BY_NAME)


def test_the_goldens_are_small() -> None:
    assert goldens.FILE.stat().st_size < GOLDEN_MOST_BYTES


class Margins:
    """A greedy sampler that keeps how far the likeliest token is before the next."""

    greedy = True

    def __init__(self) -> None:
        self.least = math.inf

    def __call__(self, logits: mx.array, temperature: mx.array, noise: mx.array) -> mx.array:
        best = np.sort(np.array(logits.astype(mx.float32)), axis=-1)
        self.least = min(self.least, float((best[..., -1] - best[..., -2]).min()))
        return mx.argmax(logits, axis=-1)


def nano() -> Lm:
    return load_lm("nano", "float32")


@pytest.mark.parametrize("options", [{}, {"cfg_coef": GUIDANCE}], ids=["plain", "guided"])
def test_no_greedy_talk_hangs_on_a_near_tie(options: dict) -> None:
    """A GPU rounds differently: its tokens must be the same ones all the same."""
    lm, margins, batches = nano(), Margins(), BatchCheck()
    draws = {"draws": (margins, margins), "compiled": False, **GREEDY, **options}
    talks = [goldens.user_codes(lm.config).T] if not options else []
    talks += [batches.user(lm, b) for b in range(BATCH)]
    for talk in talks:
        generator = lm.generator(seed=0, **draws)
        for codes in talk:
            generator.step(codes)
    assert margins.least > 20 * OF_MODEL["fp32"]


@pytest.mark.parametrize(
    "chosen",
    [*(Format(bits, group) for bits in AFFINE_BITS for group in AFFINE_GROUPS), *MODES.values()],
    ids=str,
)
def test_packed_numbers_are_what_mlx_unpacks(chosen: Format) -> None:
    weight = probe.random("packed").standard_normal((4, 256)).astype(np.float32)
    parts = packed_numbers.quantized(weight, chosen)
    arrays = {name: mx.array(part) for name, part in parts.items()}
    theirs = mx.dequantize(
        arrays["weight"],
        arrays["scales"],
        arrays.get("biases"),
        group_size=chosen.group_size,
        bits=chosen.bits,
        mode=chosen.mode,
    )
    np.testing.assert_array_equal(
        packed_numbers.unpacked(parts, chosen), np.array(theirs.astype(mx.float32))
    )


def test_weights_are_numbers_that_bf16_has() -> None:
    config = parse_config(probe.READER, "probe")
    for tensor in probe.tensors(config).values():
        as_bf16 = mx.array(tensor).astype(mx.bfloat16).astype(mx.float32)
        np.testing.assert_array_equal(tensor, np.array(as_bf16))


def test_the_judge_compiles_nothing_and_leaves_the_rest_as_it_was() -> None:
    site = here()
    traces = 0

    @mx.compile
    def double(x: mx.array) -> mx.array:
        nonlocal traces
        traces += 1
        return x + x

    for _ in range(2):
        with site.judge():
            mx.eval(double(mx.ones(3)))
            assert mx.default_device() == mx.Device(mx.cpu)
    assert traces == 2
    if site.compiles:
        for _ in range(3):
            mx.eval(double(mx.ones(3)))
        assert traces == 3


def test_a_part_that_raises_has_failed_without_paths() -> None:
    class Broken:
        name, fallback = "broken", BY_NAME["norms"].fallback

        def check(self, site: Site) -> list[Deviation]:
            raise RuntimeError("can't open /Users/ada/secret.metallib: gone\nmore")

    result = examine(Broken(), here())
    assert result.wrong and result.status != OK
    assert result.why == "RuntimeError: can't open ... gone"


@pytest.mark.parametrize("off", [math.nan, math.inf])
def test_what_is_no_number_is_wrong(off: float) -> None:
    assert not Deviation("x", off, 1.0).ok and Deviation("x", off, 1.0).share == math.inf
