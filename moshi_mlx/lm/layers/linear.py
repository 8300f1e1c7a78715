"""Linear layers without bias, quantized or not, and what keeps the graph of a frame small.

A layer may have a LoRA pair beside it: y = W x + B (A x), for weights that it isn't merged into.
Source: PyTorch `moshi/modules/lora.py`. Shapes: R rank.
"""

import operator

import mlx.core as mx
import mlx.nn as nn

from ...backend.device import on_gpu


class Linear(nn.Linear):
    """y = x W^T. `transposed` is made once: in a frame's graph hundreds of views cost host time."""

    def __init__(self, inputs: int, outputs: int, in_parts: bool = False) -> None:
        """in_parts: `StackedViews` takes the matrix apart, whose parts lie together by rows."""
        super().__init__(inputs, outputs, bias=False)
        self._view = _View()
        self.by_rows = in_parts

    @property
    def transposed(self) -> mx.array:
        """`weight.T`, of the weight that is there now."""
        return self._view.of(self.weight)

    def forget_view(self) -> None:
        """Hold on to no weight but the one in the layer."""
        self._view = _View()

    def lay_out(self, gpu: bool | None = None) -> None:
        """Compute the weight, as `laid_out` unless it must lie by rows."""
        self.weight = self.weight if self.by_rows else laid_out(self.weight, gpu)
        mx.eval(self.weight)


def laid_out(weight: mx.array, gpu: bool | None = None) -> mx.array:
    """A matrix [out, in], the same, lying in memory as its products are quickest.

    By columns on the CPU: there the BLAS of MLX's wheel for Linux multiplies numbers one by one
    where a matrix lies by rows, and several at once where it lies by columns (half the time,
    benchmarks/README.md). A GPU reads rows. gpu: None: as MLX's default device is.
    """
    by_rows = weight.dtype != mx.float32 or (on_gpu() if gpu is None else gpu)
    return weight if by_rows else mx.contiguous(weight.T).T


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
        self._of: tuple[mx.array, ...] = ()
        self._stacked: list[mx.array] = []
        self._each: list[list[mx.array]] = []

    def product(self, x: mx.array, linear: nn.Module) -> mx.array:
        """[R, in] -> [parts, R, out]."""
        if not self._cut(linear):
            return linear(x).reshape(len(x), self.parts, -1).swapaxes(0, 1)
        if isinstance(linear, Linear):
            return x @ self._stacked[0]
        assert isinstance(linear, nn.QuantizedLinear)
        return _quantized(mx.broadcast_to(x, (self.parts, *x.shape)), self._stacked, linear)

    def one(self, part: int, x: mx.array, linear: nn.Module) -> mx.array:
        """[R, in] -> [R, out] of one part; the others aren't read."""
        if not self._cut(linear):
            return mx.split(linear(x), self.parts, axis=-1)[part]
        if isinstance(linear, Linear):
            return x @ self._each[part][0]
        assert isinstance(linear, nn.QuantizedLinear)
        return _quantized(x, self._each[part], linear)

    def _cut(self, linear: nn.Module) -> bool:
        """Make the views, unless that was done for these very arrays; False: it can't be cut."""
        if not isinstance(linear, Linear | nn.QuantizedLinear):
            return False
        named = (linear.get(name) for name in ("weight", "scales", "biases"))
        arrays = tuple(array for array in named if array is not None)
        before = self._of
        if len(arrays) == len(before) and all(map(operator.is_, arrays, before)):
            return True
        self._of = arrays
        self._stacked = [a.reshape(self.parts, -1, a.shape[-1]) for a in arrays]
        if isinstance(linear, Linear):
            self._stacked = [a.swapaxes(-1, -2) for a in self._stacked]
        self._each = _parts_of(self._stacked, self.parts)
        mx.eval(self._stacked, self._each)
        return True


def _parts_of(stacked: list[mx.array], parts: int) -> list[list[mx.array]]:
    """Each part of arrays [parts, ...], as views: a number as an index would copy."""
    cut = [[part.squeeze(0) for part in mx.split(array, parts)] for array in stacked]
    return [list(part) for part in zip(*cut, strict=True)]


def _quantized(x: mx.array, arrays: list[mx.array], like: nn.QuantizedLinear) -> mx.array:
    """x W^T for the weight, scales and biases of a part of a layer."""
    options = {"group_size": like.group_size, "bits": like.bits, "mode": like.mode}
    return mx.quantized_matmul(x, *arrays, transpose=True, **options)


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
