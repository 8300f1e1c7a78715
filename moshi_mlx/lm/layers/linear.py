"""Linear layers without bias, quantized or not, and what keeps the graph of a frame small.

A layer may have a LoRA pair beside it: y = W x + B (A x), for weights that it isn't merged into.
Source: PyTorch `moshi/modules/lora.py`. Shapes: R rank.
"""

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


class AdaptedLinear(nn.Module):
    """A layer (quantized, most often) and its pair: a [R, in], b [out, R]."""

    def __init__(self, base: nn.Module, a: mx.array, b: mx.array) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = mx.contiguous(a.T), mx.contiguous(b.T)

    def __call__(self, x: mx.array) -> mx.array:
        """[..., in] -> [..., out]."""
        return self.beside(linear_of(x, self.base), x)

    def beside(self, y: mx.array, x: mx.array) -> mx.array:
        """y + B (A x)."""
        return mx.addmm(y, x @ self.down, self.up)


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


class StackedViews:
    """A layer's matrix as several of equal size, one below the other: views, made once.

    Products of several rows then give each part in one piece: Metal's attention copies queries that
    lie between keys and values. An object and no module, as above.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._of: tuple[mx.array | None, ...] = ()
        self._views: list[mx.array] = []

    def product(self, x: mx.array, linear: nn.Module) -> mx.array:
        """[R, in] -> [parts, R, out]."""
        if isinstance(linear, Linear):
            return x @ self._made(linear.weight)[0].swapaxes(-1, -2)
        if isinstance(linear, nn.QuantizedLinear):
            arrays = (linear.weight, linear.scales, linear.get("biases"))
            views = self._made(*(array for array in arrays if array is not None))
            bits, group, mode = linear.bits, linear.group_size, linear.mode
            return mx.quantized_matmul(
                mx.broadcast_to(x, (self.parts, *x.shape)),
                *views,
                transpose=True,
                group_size=group,
                bits=bits,
                mode=mode,
            )
        return linear(x).reshape(len(x), self.parts, -1).swapaxes(0, 1)

    def _made(self, *arrays: mx.array) -> list[mx.array]:
        if len(arrays) != len(self._of) or any(
            a is not b for a, b in zip(arrays, self._of, strict=True)
        ):
            self._of = arrays
            self._views = [a.reshape(self.parts, -1, a.shape[-1]) for a in arrays]
            mx.eval(self._views)
        return self._views


def linear_of(x: mx.array, linear: nn.Module) -> mx.array:
    """linear(x) for a layer without bias, quantized or not."""
    return x @ linear.transposed if isinstance(linear, Linear) else linear(x)


def linear_plus(residual: mx.array, x: mx.array, linear: nn.Module) -> mx.array:
    """residual + linear(x), as one operation where the weights are not quantized."""
    if isinstance(linear, Linear):
        return mx.addmm(residual, x, linear.transposed)
    if isinstance(linear, AdaptedLinear):
        return linear.beside(linear_plus(residual, x, linear.base), x)
    return residual + linear(x)
