"""Every operation of a frame against the table of what Metal has: types, shapes, none made anew."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.machine.random_model import random_lm, random_mimi
from benchmarks.graph import Node, nodes_of
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm
from tests.support.bench_shapes import SMALL
from tests.support.lm_goldens import model
from tests.support.metal_table import MLX_VERSION, problems
from tests.support.mimi_shapes import narrow_config

WIDE = SMALL | {"depformer_num_heads": 1}  # heads of 64, as the fused attention takes them
RECIPES = ("fp32", "bf16", "q3", "q4", "q6", "q8", "mxfp4", "nvfp4", "mxfp8")


def lm_nodes(lm: Lm, step: int = 5, **options: Any) -> list[Node]:
    """The operations of one step after `step` others."""
    generator = lm.generator(seed=0, **options)
    function = generator._frame
    full = step + 1 >= function.context
    length = next(n for n in function.lengths if n > step or n == function.context)
    held = generator._held
    given = {
        "packed": mx.zeros(function.integers.size, mx.int32),
        "user": [mx.zeros(lm.config.user_q, mx.int32)] if lm.config.user_q else [],
        "key": mx.zeros(2, mx.uint32),
        "scales": held.scales,
        "rings": held.buffers.rings,
        "extras": held.given.arrays(),
    }
    mx.eval(given)
    call = function.traced(length, full)
    names = list(given)
    return nodes_of(lambda tree: call(*(tree.get(name, []) for name in names)), given)


def check(nodes: list[Node], draws: int) -> None:
    assert not problems(nodes)
    names = [node.name for node in nodes]
    assert "Load" not in names and names.count("RandomBits") == draws


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_language_models_frame(recipe: str, dtype: str) -> None:
    lm = random_lm(parse_config(WIDE, "small"), recipe, dtype)
    for step in (5, 300):  # with a mask, and with a context that is full
        check(lm_nodes(lm, step, compiled=False), draws=1)


@pytest.mark.parametrize(
    ("options", "draws"),
    [
        ({"kv_bits": 8}, 1),
        ({"text_temperature": 0.0, "audio_temperature": 0.0}, 0),
        ({"text_top_k": 0, "audio_top_k": 0}, 1),
    ],
)
def test_the_ways_of_a_conversation(options: dict[str, Any], draws: int) -> None:
    check(
        lm_nodes(random_lm(parse_config(WIDE, "small"), "fp32"), compiled=False, **options), draws
    )


@pytest.mark.parametrize("name", ["lm_stt", "lm_tts"])
def test_listening_and_speaking_models(name: str) -> None:
    """Tiny ones, whose heads are too narrow for the fused attention: the rest must be there."""
    nodes = lm_nodes(model(name), compiled=False)
    assert not [p for p in problems(nodes) if not p.startswith("fast attention")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mimis_frames(dtype: str) -> None:
    mimi = random_mimi(narrow_config(), dtype=dtype, compiled=False)
    ways: list[tuple[Callable, mx.array, list[mx.array]]] = [
        (mimi.encode_step, mx.zeros((1, mimi.frame_samples)), mimi.encoder_state()),
        (mimi.decode_step, mx.zeros((1, 8, 1), mx.int32), mimi.decoder_state()),
    ]
    for step, given, state in ways:
        check(nodes_of(step, given, state), draws=0)


def test_what_metal_lacks_is_found() -> None:
    """The audit can fail: a type, an operation and a width that there are no kernels for."""
    x = mx.zeros((2, 64))
    assert problems(nodes_of(lambda a: a.astype(mx.int64), x))
    assert problems(nodes_of(lambda a: mx.tan(a), x))
    q = mx.zeros((1, 2, 1, 24))
    attention = lambda a: mx.fast.scaled_dot_product_attention(a, a, a, scale=1.0)  # noqa: E731
    assert problems(nodes_of(attention, q))
    assert problems(nodes_of(lambda a: mx.partition(a, 5), mx.zeros((1, 4000))))


def test_the_table_is_of_the_version_that_is_tested() -> None:
    """Another MLX: read its Metal backend again, then write its version into the table."""
    assert np.array_equal(mx.__version__.split(".")[:2], MLX_VERSION.split(".")[:2])
