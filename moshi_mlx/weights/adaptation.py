"""An adapter and its model: which file it is, merged into the weights or kept beside them.

A model whose adapter lies beside it shares its weights with any number of others (`with_adapter`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..config.model_files import adapter_path, names_adapter
from ..config.reading import read_config
from ..errors import ConfigError, MoshiError, WeightsError
from ..lm.layers.adapted import AdaptedStack
from ..lm.layers.embedding import StackedEmbedding, TokenEmbedding
from ..lm.layers.linear import AdaptedLinear
from ..lm.model import Lm
from .layers import formats_of, make_weights, quantize_layers
from .lora import Adapter, LoraPair, read_adapter
from .packing import layer_name, model_names, pack, stacks, unpack
from .recipes import Format

SCALING = 2.0  # Kyutai's default
LoraMode = Literal["auto", "merged", "beside"]


@dataclass(frozen=True)
class Adaptation:
    """An adapter's file, its scaling, whether to merge it, and what people call it."""

    path: Path
    scaling: float
    mode: LoraMode = "auto"
    name: str = ""


def adaptation_from(
    lora: str | Path | None,
    mode: LoraMode,
    raw: Mapping[str, Any],
    folder: Path,
    offline: bool | None = None,
) -> Adaptation | None:
    """What `load_lm(lora=...)` asks for; None: the adapter that the model's own config names.

    raw, folder: the model's. Raises as `adaptation_of`.
    """
    check_mode(mode)
    if lora is not None:
        return adaptation_of(lora, mode, raw, offline)
    if not names_adapter(raw):
        return None
    path = adapter_path(folder, raw)
    return Adaptation(path, _scaling(raw, folder / "config.json"), mode, path.stem)


def adaptation_of(
    lora: str | Path, mode: LoraMode, raw: Mapping[str, Any], offline: bool | None = None
) -> Adaptation:
    """An adapter: a file, or that of a folder or repository.

    The scaling is that of the adapter's own config where it has one, else that of the model's,
    `raw`. Raises WeightsError, ConfigError, DownloadError, and MoshiError for a mode that there
    isn't.
    """
    check_mode(mode)
    path = Path(lora).expanduser()
    if not path.is_file():
        from ..hub import resolve

        home = resolve(str(lora), None, offline, files=("lora",))
        path = adapter_path(home, read_config(home) if (home / "config.json").is_file() else {})
    own = path.with_name("config.json")
    said = read_config(path.parent) if own.is_file() else raw
    return Adaptation(path, _scaling(said, own), mode, adapter_name(lora))


def check_mode(mode: LoraMode) -> None:
    if mode not in get_args(LoraMode):
        raise MoshiError(f"no lora_mode {mode!r}; there are {', '.join(get_args(LoraMode))}")


def adapter_name(lora: str | Path) -> str:
    """What people call an adapter: its repository, its folder, or its file's own name."""
    path = Path(lora).expanduser()
    if not path.exists():
        return str(lora)
    path = path.resolve()
    return path.parent.name if path.name == "lora.safetensors" else path.stem


def _scaling(raw: Mapping[str, Any], source: Path) -> float:
    value = raw.get("lora_scaling", SCALING)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e4:
        raise ConfigError(f"{source}: lora_scaling must be a number, not {value!r}")
    return float(value)


@dataclass(frozen=True)
class Adapted:
    """Weights with an adapter in them where it can be; pairs to keep beside the others.

    tensors, quantized: by the names of Kyutai's MLX layout, as `packing.pack` takes them.
    """

    tensors: dict[str, mx.array]
    quantized: dict[str, Format]
    beside: dict[str, LoraPair]


def adapted(
    tensors: Mapping[str, mx.array],
    quantized: Mapping[str, Format],
    adapter: Adapter,
    mode: LoraMode,
    dtype: mx.Dtype,
) -> Adapted:
    """Merged layers are summed in float32 and rounded once, to `dtype`. Raises WeightsError."""
    both = sorted(adapter.pairs.keys() & quantized)
    if both and mode == "merged":
        raise WeightsError(
            f"{both[0]} is quantized: an adapter can only be kept beside it (lora_mode auto), or "
            "merged before quantizing"
        )
    new, modes = replaced(tensors, quantized, adapter.whole, dtype)
    beside = {}
    for layer, pair in adapter.pairs.items():
        if mode == "beside" or layer in quantized:
            beside[layer] = pair
        else:
            weight = new[f"{layer}.weight"].astype(mx.float32)
            new[f"{layer}.weight"] = (weight + pair.delta).astype(dtype)
    return Adapted(new, modes, beside)


def replaced(
    tensors: Mapping[str, mx.array],
    quantized: Mapping[str, Format],
    whole: Mapping[str, mx.array],
    dtype: mx.Dtype,
) -> tuple[dict[str, mx.array], dict[str, Format]]:
    """The weights with whole tensors of an adapter in their places, in `dtype`: not quantized."""
    new, modes = dict(tensors), dict(quantized)
    for name, tensor in whole.items():
        layer = name.rpartition(".")[0]
        if modes.pop(layer, None) is not None:
            for kind in ("scales", "biases"):
                new.pop(f"{layer}.{kind}", None)
        new[name] = tensor.astype(dtype)
    return new, modes


def with_adapter(lm: Lm, adaptation: Adaptation) -> Lm:
    """Another model with an adapter beside its layers; it shares all other weights with `lm`.

    Raises WeightsError for an adapter that doesn't fit, MoshiError for a model that has one beside
    its layers already.
    """
    if any(isinstance(module, AdaptedLinear | AdaptedStack) for module in lm.modules()):
        raise MoshiError("this model has an adapter beside it already: load it without one")
    adapter = read_adapter(adaptation.path, lm.config, adaptation.scaling)
    arrays, modes = with_replaced(lm, adapter.whole)
    new = Lm(lm.config, lm.kv_bits)
    quantize_layers(new, modes)
    new.load_weights(list(arrays.items()), strict=True)
    tables = [
        (name, module)
        for name, module in lm.named_modules()
        if isinstance(module, TokenEmbedding | StackedEmbedding)
        and arrays[f"{name}.emb.weight"] is module.emb.weight
    ]
    new.update_modules(tree_unflatten(tables))  # what a table lays out for lookup is shared too
    attach(new, adapter.pairs, lm.dtype)
    new.eval()
    del adapter
    make_weights(new)
    return new


def with_replaced(
    lm: Lm, whole: Mapping[str, mx.array]
) -> tuple[dict[str, mx.array], dict[str, Format]]:
    """A model's parameters and formats, whole tensors of an adapter in their places."""
    arrays, modes = dict(tree_flatten(lm.parameters())), formats_of(lm)
    if not whole:
        return arrays, modes
    names = model_names(lm.config)
    quantized = {layer: modes[ours] for layer, ours in names.items() if ours in modes}
    tensors, quantized = replaced(unpack(arrays, lm.config), quantized, whole, lm.dtype)
    packed, new_modes = pack(tensors, quantized, lm.config)
    changed = {names[name.rpartition(".")[0]] for name in whole}

    def kept(name: str) -> bool:
        return name.rpartition(".")[0] not in changed

    arrays = {n: t for n, t in arrays.items() if kept(n)}
    arrays |= {n: t for n, t in packed.items() if not kept(n)}
    modes = {layer: mode for layer, mode in modes.items() if layer not in changed}
    return arrays, modes | {layer: m for layer, m in new_modes.items() if layer in changed}


def attach(lm: Lm, pairs: Mapping[str, LoraPair], dtype: mx.Dtype) -> None:
    """Put pairs (by the names of Kyutai's MLX layout) beside the layers of a model."""
    new: list[tuple[str, nn.Module]] = []
    modules = dict(lm.named_modules())

    def cut(pair: LoraPair) -> tuple[mx.array, mx.array]:
        return pair.a.astype(dtype), pair.b.astype(dtype)

    for layer, pair in pairs.items():
        if (name := layer_name(layer, lm.config)) is not None:
            new.append((name, AdaptedLinear(modules[name], *cut(pair))))
    for name, members in stacks(lm.config).items():
        found = [pairs[member] for member in members if member in pairs]
        if found and len(found) < len(members):
            raise WeightsError(
                f"the adapter has {len(found)} of the {len(members)} layers of {name}"
            )
        if found:
            new.append((name, AdaptedStack(modules[name], [cut(pair) for pair in found])))
    lm.update_modules(tree_unflatten(new))
