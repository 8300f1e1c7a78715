"""A model's layers by their formats: made quantized ones, and read back."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..lm.layers.linear import Linear
from .recipes import Format

Quantized = nn.QuantizedLinear | nn.QuantizedEmbedding


def formats_of(lm: nn.Module) -> dict[str, Format]:
    """Quantized layer, by the model's own name -> its format."""
    return {
        name: Format(module.bits, module.group_size, module.mode)
        for name, module in lm.named_modules()
        if isinstance(module, Quantized)
    }


def quantize_layers(lm: nn.Module, modes: Mapping[str, Format]) -> None:
    """Make the layers in `modes` (of the model's own names) quantized ones; nothing is computed."""

    def how(path: str, module: nn.Module) -> bool | dict:
        if path not in modes:
            return False
        mode = modes[path]
        return {"bits": mode.bits, "group_size": mode.group_size, "mode": mode.mode}

    if modes:
        nn.quantize(lm, class_predicate=how)


def make_weights(model: nn.Module, gpu: bool | None = None) -> None:
    """Compute a model's weights, one after the other, as products want them in memory.

    All at once, what each of them is made of (as read, in float32, an adapter's part) would be
    there together. gpu: None: as MLX's default device is.
    """
    dense, arrays = dense_layers(model), dict(tree_flatten(model.parameters()))
    for name in list(arrays):
        mx.eval(arrays.pop(name))
        if name in dense:  # what it is laid out from isn't held beside it
            dense[name].lay_out(gpu)


def dense_layers(model: nn.Module) -> dict[str, Linear]:
    """The layers whose weights `make_weights` lays out, by the names of those."""
    found = model.named_modules()
    layers = {f"{name}.weight": layer for name, layer in found if isinstance(layer, Linear)}
    return {name: layer for name, layer in layers.items() if not layer.by_rows}
