"""What several rows of a step take of a layer's matrix: views, no second copy of the weights."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.lm.layers.linear import Linear, StackedViews


@pytest.mark.parametrize("quantized", [False, True])
def test_parts_of_a_layer_hold_no_memory(quantized: bool) -> None:
    layer: nn.Module = Linear(256, 3 * 256)
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
