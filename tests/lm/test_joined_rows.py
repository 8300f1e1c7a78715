"""Rows of quantized tables in one gather: the values that MLX gives, nothing held twice."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.layers.joined_rows import JoinedRows
from moshi_mlx.weights.loading import save_lm
from tests.support.models.bench_shapes import SMALL

AFFINE = [(bits, group, "affine") for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64)]
BYTES = [(4, 32, "mxfp4"), (4, 16, "nvfp4"), (8, 32, "mxfp8")]
N, C = 40, 256


def table(bits: int, group: int, mode: str, dtype: mx.Dtype) -> nn.QuantizedEmbedding:
    plain = nn.Embedding(N, C)
    plain.weight = mx.random.normal((N, C), key=mx.random.key(bits)).astype(dtype)
    made = nn.QuantizedEmbedding.from_embedding(plain, group, bits, mode=mode)
    mx.eval(made.parameters())
    return made


@pytest.mark.parametrize("kind", AFFINE + BYTES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_rows_are_those_of_mlx(kind, dtype: mx.Dtype) -> None:
    made, other = table(*kind, dtype), table(*kind, dtype)
    joined, by_hand = JoinedRows(), kind[2] == "affine" and kind[0] in (4, 8)
    x = mx.random.normal((1, C), key=mx.random.key(1)).astype(dtype)
    for ids in (mx.array([7]), mx.array([N - 1]), mx.array([3, 3, 0, N - 1])):
        want = other(ids)
        row = joined.plus(None, made, ids)
        if ids.size > 1 and not by_hand:
            assert row is None  # MLX would copy the parts of several rows
            continue
        assert row is not None and row.dtype == want.dtype
        if not by_hand or dtype == mx.float32:
            np.testing.assert_array_equal(as_numpy(row), as_numpy(want))
        else:  # rounded once here, in between by MLX
            step = float(mx.abs(want).max()) * (2**-8 if dtype == mx.bfloat16 else 2**-11)
            assert np.abs(as_numpy(row) - as_numpy(want)).max() <= 2 * step
        if ids.size == 1:
            total = joined.plus(x, made, ids)
            assert total is not None
            np.testing.assert_array_equal(as_numpy(total), as_numpy(x + row))


def as_numpy(a: mx.array) -> np.ndarray:
    return np.array(a.astype(mx.float32))


@pytest.mark.parametrize("kind", [(4, 32, "affine"), (4, 32, "mxfp4")])
def test_the_tables_parameters_stay_and_lie_in_the_rows(kind) -> None:
    made, other = table(*kind, mx.float32), table(*kind, mx.float32)
    size = sum(part.nbytes for part in made.parameters().values())
    mx.clear_cache()
    before = mx.get_active_memory()
    JoinedRows().plus(None, made, mx.array([1]))
    assert mx.get_active_memory() - before <= size // 20
    for name, part in other.parameters().items():
        np.testing.assert_array_equal(np.array(made[name]), np.array(part))
        assert made[name].dtype == part.dtype
    several = mx.array([[2, 5]])
    np.testing.assert_array_equal(as_numpy(made(several)), as_numpy(other(several)))


def test_another_table_in_the_same_place_is_seen() -> None:
    made, joined = table(4, 32, "affine", mx.float32), JoinedRows()
    joined.plus(None, made, mx.array([1]))
    made.scales = made.scales * 2
    made.biases = made.biases * 2
    row = joined.plus(None, made, mx.array([1]))
    assert row is not None
    np.testing.assert_array_equal(np.array(row), np.array(made(mx.array([1]))))


def test_a_row_without_whole_words_is_left_to_mlx() -> None:
    plain = nn.Embedding(N, 32)
    made = nn.QuantizedEmbedding.from_embedding(plain, 32, 4)
    made.scales, made.biases = (part.astype(mx.bfloat16) for part in (made.scales, made.biases))
    assert JoinedRows().plus(None, made, mx.array([1])) is None  # a scale of 2 bytes
    assert JoinedRows().plus(None, plain, mx.array([1])) is None  # not quantized


@pytest.mark.parametrize("recipe", ["q4", "q8", "q6", "mxfp4"])
def test_a_model_that_has_spoken_is_saved_as_it_was_read(recipe: str, tmp_path) -> None:
    lm = random_lm(parse_config(SMALL, "small"), recipe, "float32")
    save_lm(lm, tmp_path / "before.safetensors")
    lm.generator(seed=0).step(np.zeros(lm.config.user_q, np.int32))
    save_lm(lm, tmp_path / "after.safetensors")
    before = mx.load(str(tmp_path / "before.safetensors"))
    after = mx.load(str(tmp_path / "after.safetensors"))
    assert isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys()
    for name, array in before.items():
        assert array.dtype == after[name].dtype
        np.testing.assert_array_equal(np.array(array), np.array(after[name]))


def test_teacher_forced_and_step_by_step_agree() -> None:
    """`forward` looks rows up as MLX does, a step in one gather."""
    lm = random_lm(parse_config(SMALL, "small"), "q4", "float32")
    ids = mx.array([5])
    want = lm.depth.embs[1].emb(ids)
    np.testing.assert_array_equal(np.array(lm.depth.embs[1].lookup(ids)), np.array(want))
