"""How a layer's matrix lies in memory, and what several rows of a step take of it."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moshi_mlx
from moshi_mlx.lm.layers.linear import Linear, StackedViews, laid_out
from moshi_mlx.weights.layers import dense_layers, make_weights
from tests.support.models.lm_goldens import GOLDEN


@pytest.mark.parametrize("quantized", [False, True])
def test_parts_of_a_layer_hold_no_memory(quantized: bool) -> None:
    dense = Linear(256, 3 * 256, in_parts=True)
    dense.lay_out(gpu=False)
    layer: nn.Module = dense
    if quantized:
        layer = nn.QuantizedLinear(256, 3 * 256, bias=False, group_size=32, bits=4)
    parts, x = StackedViews(3), mx.random.normal((2, 256))
    mx.eval(layer.parameters(), x)
    whole = np.array(layer(x)).reshape(2, 3, 256).swapaxes(0, 1)
    before = mx.get_active_memory()
    made = [np.array(parts.product(x, layer)), *(np.array(parts.one(i, x, layer)) for i in (0, 2))]
    assert mx.get_active_memory() - before < 1000
    np.testing.assert_allclose(made[0], whole, atol=1e-5)
    np.testing.assert_allclose(np.stack(made[1:]), whole[[0, 2]], atol=1e-5)


def strides(matrix: mx.array) -> tuple[int, ...]:
    """In numbers, not in bytes."""
    view = memoryview(matrix)
    return tuple(stride // view.itemsize for stride in view.strides or ())


@pytest.mark.parametrize(
    ("gpu", "dtype", "lies"),
    [
        (False, mx.float32, (1, 5)),
        (True, mx.float32, (3, 1)),
        (False, mx.float16, (3, 1)),  # never multiplied by a BLAS
    ],
)
def test_the_cpu_has_its_matrices_by_columns(gpu: bool, dtype: mx.Dtype, lies: tuple) -> None:
    rows = mx.arange(15).reshape(5, 3).astype(dtype)
    found = laid_out(rows, gpu)
    assert strides(found) == lies
    assert found.tolist() == rows.tolist()


def test_a_models_dense_layers_are_laid_out_and_stay_the_same() -> None:
    lm = moshi_mlx.load_lm(GOLDEN / "lm_moshi", dtype="float32")
    before = {name: np.array(array, order="C") for name, array in tree_flatten(lm.parameters())}
    names = set(dense_layers(lm))
    assert {"text_linear.weight", "depth.heads.0.weight"} <= names
    assert not any("in_proj" in name for name in names)  # they are taken apart
    for gpu, axis in ((True, 1), (False, 0)):
        lm = moshi_mlx.load_lm(GOLDEN / "lm_moshi", dtype="float32")
        if gpu:  # as read
            lm.load_weights([(name, mx.array(before[name])) for name in names], strict=False)
        make_weights(lm, gpu)
        after = dict(tree_flatten(lm.parameters()))
        assert {strides(after[name])[axis] for name in names} == {1}
        assert all(np.array_equal(after[name], array) for name, array in before.items())
