"""Faults planted on purpose: each is found, and by the part that has it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.selftest.examine import examine, examined
from app.selftest.models import Makers
from app.selftest.part import Deviation, FasterWay, Note, Part
from app.selftest.parts.codec import DecoderCheck, EncoderCheck, nano_mimi
from app.selftest.parts.elementary import NormCheck, RopeCheck
from app.selftest.parts.language import CompiledCheck, ConditionCheck, DepthCheck, TemporalCheck
from app.selftest.parts.products import ProductCheck, RecipeCheck
from app.selftest.parts.rings import RingCheck, located
from app.selftest.parts.sampling import SamplingCheck
from app.selftest.parts.talks import HeliumCheck
from app.selftest.site import Site
from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.lm.compiled_step import FrameFunction
from moshi_mlx.lm.layers.kv_ring import Position
from moshi_mlx.lm.sampling import Sampler


@cache
def here() -> Site:
    return Site.here()


def transposed(part: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """A square matrix of that part, turned."""

    def change(name: str, tensor: np.ndarray) -> np.ndarray:
        return tensor.T.copy() if name == part else tensor

    return change


def one_too_long(config: Any) -> Any:
    return replace(config, transformer=replace(config.transformer, context=3001))


def off_by_one(function: FrameFunction, step: int) -> Position:
    """The mask lets one slot more be seen."""
    at = located(function, step)
    if at.mask is None:
        return at
    return replace(at, mask=mx.arange(at.length).reshape(at.mask.shape) <= min(step + 1, 3000))


def one_slot_on(function: FrameFunction, step: int) -> Position:
    at = located(function, step)
    return replace(at, slot=(at.slot + 1) % function.context)


def norm_in_halves(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """Squares of loud activations are more than fp16 holds."""
    return x * mx.rsqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def product_in_tf32(x: mx.array, weight: mx.array) -> mx.array:
    """As the newest GPUs multiply floats: 11 bits of their significands."""
    if x.dtype != mx.float32:
        return x @ weight.T

    def cut(a: mx.array) -> mx.array:
        return (a.view(mx.uint32) & mx.array(0xFFFFE000, mx.uint32)).view(mx.float32)

    return cut(x) @ cut(weight).T


def rounds_more(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiler whose kernels keep fewer bits."""

    def compiled(*given: Any) -> Any:
        logits, *rest = function(*given)
        return ([a.astype(mx.bfloat16).astype(a.dtype) for a in logits], *rest)

    return compiled


def one_fewer(top_k: int, top_p: float) -> Sampler:
    return Sampler(False, max(0, top_k - 1), top_p)


def wider_nucleus(top_k: int, top_p: float) -> Sampler:
    return Sampler(False, top_k, top_p and top_p + 0.05)


class Deaf:
    """A codec whose streams forget what they have heard."""

    def __init__(self) -> None:
        self._mimi = nano_mimi()

    def stream(self) -> "Deaf":
        return self

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        codes = self._mimi.encode(pcm)
        return codes[:, 0] if len(pcm) == 1920 else codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return self._mimi.decode(codes if codes.ndim == 2 else codes[:, None])


OUT = "transformer.layers.1.self_attn.out_proj.weight"
OUT_OF_SLICE = "depformer.slices.2.transformer.layers.0.self_attn.out_proj.weight"
OUT_OF_CROSS = "transformer.layers.0.cross_attention.out_proj.weight"
compiling = pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler that works")
FAULTS: dict[str, Part] = {
    "a transposed weight in time": TemporalCheck(Makers(weights=transposed(OUT))),
    "a transposed weight in depth": DepthCheck(Makers(weights=transposed(OUT_OF_SLICE))),
    "a transposed weight of cross attention": ConditionCheck(
        Makers(weights=transposed(OUT_OF_CROSS))
    ),
    "a transposed weight of Helium": HeliumCheck(weights=transposed(OUT)),
    "a ring of the wrong length": RingCheck(config=one_too_long),
    "a ring in 8 bit of the wrong length": RingCheck(8, config=one_too_long),
    "a mask off by one": RingCheck(locate=off_by_one),
    "a step written into the wrong slot": RingCheck(locate=one_slot_on),
    "a step that isn't written": RingCheck(write=lambda ring, kv, slot: ring),
    "an overflow of fp16": NormCheck(rms=norm_in_halves),
    "floats with 11 bits": ProductCheck(multiply=product_in_tf32),
    "wrong rotary positions": RopeCheck(config=lambda c: replace(c, max_period=9_000.0)),
    "a group size of another recipe": RecipeCheck("q4", told=lambda f: replace(f, group_size=64)),
    "codes of another width": RecipeCheck("q8", told=lambda f: replace(f, bits=4)),
    "a top-k of one fewer": SamplingCheck(make=one_fewer),
    "a nucleus too wide": SamplingCheck(make=wider_nucleus),
    "an encoder that forgets": EncoderCheck(make=Deaf),  # type: ignore[arg-type]
    "a decoder that forgets": DecoderCheck(make=Deaf),  # type: ignore[arg-type]
}


def until_wrong(part: Part) -> Iterator[Deviation | Note | FasterWay]:
    """What a part finds, up to the first that is wrong."""
    for found in part.check(here()):
        yield found
        if isinstance(found, Deviation) and not found.ok:
            return


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    part = FAULTS[fault]
    result = examined(part.name, part.fallback, lambda: until_wrong(part))
    assert result.wrong, f"{fault} was not noticed by {result.name}"
    print(result)


@compiling
def test_a_compiler_that_rounds_differently_is_found() -> None:
    result = examine(CompiledCheck(compile=rounds_more), here())
    assert result.wrong and result.name == "compiled step"
    assert "--uncompiled" in result.fallback.advice


def test_a_fault_in_depth_is_not_laid_upon_the_part_in_time() -> None:
    """Parts are given what they need by numbers, not by the part before: in float32 here."""
    in_time = TemporalCheck(Makers(weights=transposed(OUT_OF_SLICE)))
    in_depth = DepthCheck(Makers(weights=transposed(OUT)))
    for part in (in_time, in_depth):
        found = list(islice(part.check(here()), 2))
        assert len(found) == 2 and all(deviation.ok for deviation in found)
