"""A model's layers by their formats: made quantized ones, and read back."""

from collections.abc import Mapping

import mlx.nn as nn

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
