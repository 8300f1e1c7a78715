"""Kyutai's LoRA adapters: read, checked against the model, and merged into its weights.

y = W x + s B (A x), with s the config's `lora_scaling` as it is. Every linear layer of a trainer's
model has a pair; a fine-tune with embeddings holds those too, whole, and they replace the base's.
Source: PyTorch `moshi/modules/lora.py`, `moshi/models/loaders.py`; kyutai-labs/moshi-finetune.
Shapes: R rank.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..config.lm_config import LmConfig
from ..config.reading import read_config
from ..config.safe_names import file_inside, safe_name
from ..errors import ConfigError, MoshiError, WeightsError, suggest
from ..lm.adapted import AdaptedLinear, AdaptedStack
from ..lm.model import Lm
from ..tensor_files.reading import read_safetensors
from .packing import layer_name, stacks
from .tensor_names import dropped, expected, source_of

PAIR = (".lora_A.weight", ".lora_B.weight")
RANK_MAX = 4096
LORA_NAME = "lora.safetensors"
SCALING = 2.0  # Kyutai's default
LoraMode = Literal["auto", "merged", "beside"]


@dataclass(frozen=True)
class Adaptation:
    """An adapter's file, its scaling, and whether to merge it."""

    path: Path
    scaling: float
    mode: LoraMode = "auto"


@dataclass(frozen=True)
class LoraPair:
    """One layer's adapter: a [R, in], b [out, R] in float32, the scaling folded into b."""

    a: mx.array
    b: mx.array

    @property
    def delta(self) -> mx.array:
        """What it adds to the layer's weight, float32 [out, in]."""
        return self.b @ self.a


@dataclass(frozen=True)
class Adapter:
    """An adapter by the names of Kyutai's MLX layout: pairs a layer, and whole tensors."""

    pairs: Mapping[str, LoraPair]
    whole: Mapping[str, mx.array]


def read_adapter(path: str | Path, config: LmConfig, scaling: float) -> Adapter:
    """The adapter in a file of Kyutai's names, of today or the older ones with stacked slices.

    Raises WeightsError for pairs that are incomplete, of two ranks or another width, and for names
    that fit no layer of this model.
    """
    path = Path(path)
    tensors = read_safetensors(path)
    for name, tensor in tensors.items():
        if not mx.issubdtype(tensor.dtype, mx.floating):
            raise WeightsError(f"{path}: {name} holds {tensor.dtype}, not floating point weights")
    pairs, whole = {}, {}
    beyond = {name.removesuffix(".weight") for name in dropped(config)}
    used = {name + end for name in beyond for end in PAIR} | dropped(config)
    for name, shape in expected(config).items():
        for source, parts, part in source_of(name, config).names:
            if source in tensors:
                whole[name] = _replacement(tensors[source], shape, source, path)
                used.add(source)
            both = [source.removesuffix(".weight") + end for end in PAIR]
            found = [key for key in both if key in tensors]
            if len(found) == 1:
                missing = next(key for key in both if key not in tensors)
                raise WeightsError(f"{path} has {found[0]}, but not {missing}")
            if found:
                a, b = (tensors[key] for key in both)
                layer = name.removesuffix(".weight")
                pairs[layer] = _pair(a, b, parts, part, shape, scaling, f"{path}: {both[0]}")
                used |= set(both)
    _check_all_used(set(tensors), used, config, path)
    return Adapter(pairs, whole)


def adaptation_from(
    lora: str | Path | None,
    mode: LoraMode,
    raw: Mapping[str, Any],
    folder: Path,
    offline: bool | None = None,
) -> Adaptation | None:
    """What `load_lm(lora=...)` asks for: a file, or the adapter of a folder or repository.

    None: the one that the model's own config names, if it does.
    The scaling is that of the adapter's own config where it has one, else the base's. Raises
    WeightsError, DownloadError, and MoshiError for a mode that there isn't.
    """
    if mode not in get_args(LoraMode):
        raise MoshiError(f"no lora_mode {mode!r}; there are {', '.join(get_args(LoraMode))}")
    if lora is None:
        if not (raw.get("lora") and raw.get("lora_name")):
            return None
        lora = file_inside(folder, safe_name(raw["lora_name"], "lora_name", "config.json"))
    path = Path(lora).expanduser()
    if not path.is_file():
        from ..hub import resolve

        path = resolve(str(lora), None, offline, files=()) / LORA_NAME
    own = path.with_name("config.json")
    said = read_config(path.parent) if own.is_file() else raw
    return Adaptation(path, _scaling(said, own), mode)


def _scaling(raw: Mapping[str, Any], source: Path) -> float:
    value = raw.get("lora_scaling", SCALING)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e4:
        raise ConfigError(f"{source}: lora_scaling must be a number, not {value!r}")
    return float(value)


def adapted(
    tensors: Mapping[str, mx.array],
    quantized: Collection[str],
    config: LmConfig,
    adaptation: Adaptation,
    dtype: mx.Dtype,
) -> tuple[dict[str, mx.array], dict[str, LoraPair]]:
    """The weights with the adapter in them where it can be, and the pairs to keep beside them.

    Merged layers are summed in float32 and rounded once, to `dtype`. Raises WeightsError.
    """
    adapter = read_adapter(adaptation.path, config, adaptation.scaling)
    both = sorted(adapter.pairs.keys() & quantized)
    if both and adaptation.mode == "merged":
        raise WeightsError(
            f"{both[0]} is quantized: an adapter can only be kept beside it (lora_mode auto), or "
            "merged before quantizing"
        )
    found = dict(tensors)
    for name, tensor in adapter.whole.items():
        if name.removesuffix(".weight") in quantized:
            raise WeightsError(f"{name} is quantized and can't be replaced: take a bf16 base")
        found[name] = tensor.astype(dtype)
    beside = {}
    for layer, pair in adapter.pairs.items():
        if adaptation.mode == "beside" or layer in quantized:
            beside[layer] = pair
        else:
            weight = found[f"{layer}.weight"].astype(mx.float32)
            found[f"{layer}.weight"] = (weight + pair.delta).astype(dtype)
    return found, beside


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


def _pair(
    a: mx.array,
    b: mx.array,
    parts: int,
    part: int,
    shape: tuple[int, ...],
    scaling: float,
    where: str,
) -> LoraPair:
    """Both matrices of one layer, cut out of a stack where the slices lie in one tensor."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] % parts or b.shape[0] % parts:
        raise WeightsError(f"{where} has shape {list(a.shape)}, its partner {list(b.shape)}")
    ranks, outs = a.shape[0] // parts, b.shape[0] // parts
    if b.shape[1] != ranks or not 1 <= ranks <= RANK_MAX:
        raise WeightsError(f"{where} has rank {ranks}, its partner {b.shape[1]}")
    if (outs, a.shape[1]) != shape:
        raise WeightsError(
            f"{where} is of another model: for a layer {[outs, a.shape[1]]}, this one's is "
            f"{list(shape)}"
        )
    a = a[part * ranks : (part + 1) * ranks].astype(mx.float32)
    return LoraPair(a, b[part * outs : (part + 1) * outs].astype(mx.float32) * scaling)


def _replacement(tensor: mx.array, shape: tuple[int, ...], name: str, path: Path) -> mx.array:
    if tensor.shape != shape:
        raise WeightsError(
            f"{path}: {name} has shape {list(tensor.shape)}, this model's {list(shape)}"
        )
    return tensor


def _check_all_used(have: set[str], used: set[str], config: LmConfig, path: Path) -> None:
    """WeightsError for an adapter that fits nothing, or in part."""
    unknown = sorted(have - used)
    if not used & have:
        raise WeightsError(f"{path} is no adapter of this model: none of its names fits a layer")
    if unknown:
        names = ", ".join(suggest(name, sorted(used)) for name in unknown[:3])
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise WeightsError(f"{path} adapts layers that this model lacks: {names}{more}")
