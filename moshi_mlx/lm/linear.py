"""Linear layers without bias, quantized or not, and what keeps the graph of a frame small."""

import mlx.core as mx
import mlx.nn as nn


class Linear(nn.Linear):
    """y = x W^T. `transposed` is made once: in a frame's graph hundreds of views cost host time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self._view = _View()

    @property
    def transposed(self) -> mx.array:
        """`weight.T`, of the weight that is there now."""
        return self._view.of(self.weight)

    def forget_view(self) -> None:
        """Hold on to no weight but the one in the layer."""
        self._view = _View()


class _View:
    """A matrix and its transpose (in an object, so that MLX takes neither for a parameter)."""

    def __init__(self) -> None:
        self._weight: mx.array | None = None
        self._transposed: mx.array | None = None

    def of(self, weight: mx.array) -> mx.array:
        if self._transposed is None or self._weight is not weight:
            self._weight, self._transposed = weight, weight.T
            mx.eval(self._transposed)
        return self._transposed


def linear_of(x: mx.array, linear: nn.Module) -> mx.array:
    """linear(x) for a layer without bias, quantized or not."""
    return x @ linear.transposed if isinstance(linear, Linear) else linear(x)


def linear_plus(residual: mx.array, x: mx.array, linear: nn.Module) -> mx.array:
    """residual + linear(x), as one operation where the weights are not quantized."""
    if isinstance(linear, Linear):
        return mx.addmm(residual, x, linear.transposed)
    return residual + linear(x)
