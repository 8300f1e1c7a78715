"""Makes the models under test of the probes' numbers; faults come in as parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.loading import cast, quantize_layers
from moshi_mlx.weights.packing import pack
from moshi_mlx.weights.recipes import RECIPES, Format, formats

from . import packed_numbers, probe


def same(config: LmConfig) -> LmConfig:
    return config


@dataclass(frozen=True)
class Makers:
    """How a model under test comes to its numbers and sizes. Tests hand in faults here."""

    weights: probe.Change = probe.unchanged
    config: Callable[[LmConfig], LmConfig] = same

    def lm(self, raw: Mapping[str, Any], dtype: mx.Dtype = mx.float32, kv_bits: int = 16) -> Lm:
        config = parse_config(raw, "probe")
        tensors = probe.tensors(config, self.weights)
        arrays = {name: mx.array(tensor) for name, tensor in tensors.items()}
        return loaded(self.config(config), arrays, {}, dtype, kv_bits)


RIGHT = Makers()  # the judge's models


def loaded(
    config: LmConfig,
    arrays: Mapping[str, mx.array],
    quantized: Mapping[str, Format],
    dtype: mx.Dtype,
    kv_bits: int = 16,
) -> Lm:
    """As tensors of a file in Kyutai's MLX layout are made a model, quantized layers or not."""
    packed, modes = pack(arrays, quantized, config)
    lm = Lm(config, kv_bits)
    quantize_layers(lm, modes)
    lm.load_weights([(name, cast(name, a, dtype, modes)) for name, a in packed.items()])
    lm.eval()
    mx.eval(lm.parameters())
    return lm


class Twins:
    """A model in a recipe, and one of the very numbers that its codes stand for.

    The plain twin is float32, and its numbers are unpacked by numpy.
    """

    def __init__(self, raw: Mapping[str, Any], recipe: str) -> None:
        self.config = parse_config(raw, "probe")
        self._quantized: dict[str, Format] = {}
        self._arrays: dict[str, mx.array] = {}
        self._numbers = probe.tensors(self.config)
        for name, chosen in formats(self.config, RECIPES[recipe]).items():
            if not chosen.quantized:
                self._arrays[name] = mx.array(self._numbers[name])
                continue
            layer = name.removesuffix(".weight")
            parts = packed_numbers.quantized(self._numbers[name], chosen)
            self._numbers[name] = packed_numbers.unpacked(parts, chosen)
            self._quantized[layer] = chosen
            self._arrays |= {f"{layer}.{kind}": mx.array(p) for kind, p in parts.items()}

    def quantized(self, dtype: mx.Dtype) -> Lm:
        return loaded(self.config, self._arrays, self._quantized, dtype)

    def plain(self) -> Lm:
        arrays = {name: mx.array(tensor) for name, tensor in self._numbers.items()}
        return loaded(self.config, arrays, {}, mx.float32)
