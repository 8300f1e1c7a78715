"""Kyutai's LoRA adapters: files read, and checked against the model.

y = W x + s B (A x), with s the config's `lora_scaling` as it is. Every linear layer of a trainer's
model has a pair; a fine-tune with embeddings holds those too, whole, and they replace the base's.
Source: PyTorch `moshi/modules/lora.py`, `moshi/models/loaders.py`; kyutai-labs/moshi-finetune.
Shapes: R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..config.lm_config import LmConfig
from ..errors import WeightsError, suggest
from ..tensor_files.reading import read_safetensors
from .finite import check_samples
from .safetensors import read_now
from .tensor_names import dropped, expected, source_of

PAIR = (".lora_A.weight", ".lora_B.weight")
RANK_MAX = 4096


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

    Raises WeightsError for pairs that are incomplete, of two ranks or another width, for numbers
    that are none, and for names that fit no layer of this model.
    """
    path = Path(path)
    tensors = read_safetensors(path)
    read_now(tensors.values())
    check_samples(tensors, str(path))
    return adapter_of(tensors, path, config, scaling)


def adapter_of(
    tensors: Mapping[str, mx.array], path: Path, config: LmConfig, scaling: float
) -> Adapter:
    """The adapter that a file's tensors are, which need not be read yet. Raises WeightsError."""
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
    ranks = {pair.a.shape[0] for pair in pairs.values()}
    if len(ranks) > 1:
        raise WeightsError(f"{path} has pairs of different ranks ({min(ranks)} to {max(ranks)})")
    return Adapter(pairs, whole)


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
