"""What Metal's attention would copy first, by the strides of what it is given.

Source: `copy_unless` and its predicates in MLX's mlx/backend/metal/scaled_dot_product_attention.cpp
(0.32.4), for up to 8 queries. A copy is a kernel more in each layer, and one that no graph shows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np
import pytest

from app.machine.random_model import random_lm, random_mimi
from moshi_mlx.config.reading import parse_config
from tests.support.models.bench_shapes import SMALL
from tests.support.models.mimi_shapes import narrow_config

Strides = tuple[int, ...]


def strides_of(x: mx.array) -> tuple[Strides, Strides]:
    """Shape and strides in elements."""
    view = np.asarray(x)
    return view.shape, tuple(n // view.itemsize for n in view.strides)


def contiguous(shape: Strides, strides: Strides) -> bool:
    size = 1
    for n, step in zip(reversed(shape), reversed(strides), strict=True):
        if n > 1 and step != size:
            return False
        size *= n
    return True


def query_copied(q: mx.array) -> bool:
    shape, strides = strides_of(q)
    if contiguous(shape, strides):
        return False
    if 1 in shape[:2]:
        other = 1 if shape[0] == 1 else 0
        steps = strides[3], strides[2], strides[other]
        return steps != (1, shape[3] * shape[other], shape[3])
    return True


def keys_copied(k: mx.array) -> bool:
    shape, strides = strides_of(k)
    return strides[3] != 1 or (1 not in shape[:2] and strides[0] != strides[1] * shape[1])


def mask_copied(mask: mx.array, q: mx.array, L: int) -> bool:
    shape, strides = strides_of(mx.broadcast_to(mask, (*q.shape[:3], L)))
    return not (
        contiguous(shape, strides) or 1 in q.shape[:2] or strides[0] == strides[1] * shape[1]
    )


@contextmanager
def copies() -> Iterator[list[str]]:
    """Collects a word for each copy of the attentions that run meanwhile."""
    attention, found = mx.fast.scaled_dot_product_attention, ["none"]
    found.clear()

    def watched(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        mask = options.get("mask")
        found.extend(["query"] * query_copied(q))
        found.extend(name for name, x in (("keys", k), ("values", v)) if keys_copied(x))
        if isinstance(mask, mx.array):
            found.extend(["mask"] * mask_copied(mask, q, k.shape[2]))
        return attention(q, k, v, **options)

    with patch.object(mx.fast, "scaled_dot_product_attention", watched):
        yield found


def small() -> Any:
    return random_lm(parse_config(SMALL, "small"), "fp32", "float32")


def alone() -> Callable[[], Any]:
    generator = small().generator(seed=0, compiled=False)
    return lambda: generator.step(np.zeros(generator.lm.config.user_q, np.int32))


def batch() -> Callable[[], Any]:
    generator = small().generator(batch=4, compiled=False)
    return lambda: generator.step(np.zeros((4, generator.lm.config.user_q), np.int32))


def guided() -> Callable[[], Any]:
    generator = small().generator(seed=0, cfg_coef=2.0, compiled=False)
    return lambda: generator.step(np.zeros(generator.lm.config.user_q, np.int32))


def mimi() -> Callable[[], Any]:
    codec = random_mimi(narrow_config(), compiled=False)
    stream = codec.stream()
    return lambda: stream.decode(stream.encode(np.zeros(codec.frame_samples, np.float32)))


@pytest.mark.parametrize("ready", [alone, batch, guided, mimi], ids=lambda f: f.__name__)
def test_nothing_is_copied_for_an_attention(ready: Callable[[], Callable[[], Any]]) -> None:
    step = ready()
    with copies() as found:
        step()
        step()
    assert found == []


def test_a_copy_would_be_seen() -> None:
    x = mx.zeros((2, 2, 3, 64))
    turned = x.transpose(1, 0, 2, 3)
    mask = mx.zeros((2, 1, 1, 3), mx.bool_)
    with copies() as found:
        attend = mx.fast.scaled_dot_product_attention
        attend(turned[:, :, :1], turned, x, scale=1.0, mask=mask)
        attend(mx.zeros((2, 2, 1, 64)), x, x[..., ::-1], scale=1.0)
    assert found == ["query", "keys", "mask", "values"]
