"""What a language model will take of memory once it is loaded, told by the headers of its files.

By the loader's own steps, of which nothing is computed: shapes and dtypes of lazy arrays tell.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..backend.device import on_gpu
from ..config.lm_config import LmConfig
from ..lm.model import Lm
from ..tensor_files.reading import read_safetensors
from .adaptation import Adaptation, Adapted, adapted
from .layers import dense_layers
from .loading import DTYPES, cast, stored_tensors, usual_dtype
from .lora import Adapter, LoraPair, adapter_of
from .packing import STACKED_AUDIO, layer_name, model_names, pack, stacks

ORDER = ("text_emb", "audio_emb", "transformer", "out_norm", "text_linear", "depth")


@dataclass(frozen=True)
class LoadedBytes:
    """`weights`: of the model. `loading`: at most, while they are made of what was read. `table`:
    the largest quantized one, there twice while its rows are laid out. `dtype`: of activations."""

    weights: int
    loading: int
    table: int
    dtype: mx.Dtype


def loaded_bytes(
    paths: list[Path],
    config: LmConfig,
    dtype: str | None = None,
    adaptation: Adaptation | None = None,
    gpu: bool | None = None,
) -> LoadedBytes:
    """Of what `lm_from_files` makes of these. gpu: None: as MLX's default device is.

    Raises WeightsError.
    """
    found = stored_tensors(paths, config)
    config = found.config
    to = DTYPES[dtype] if dtype else usual_dtype(found.tensors)
    made, adapter = Adapted(found.tensors, found.quantized, {}), Adapter({}, {})
    if adaptation is not None:
        pairs = read_safetensors(adaptation.path)
        adapter = adapter_of(pairs, adaptation.path, config, adaptation.scaling)
        made = adapted(made.tensors, made.quantized, adapter, adaptation.mode, to)
    packed, modes = pack(made.tensors, made.quantized, config)
    weights, largest = Counter[str](), Counter[str]()  # of a layer, and of its tensors
    for name, array in packed.items():
        layer, size = name.rpartition(".")[0], cast(name, array, to, modes).nbytes
        weights[layer] += size
        largest[layer] = max(largest[layer], size)
    tables = [layer for layer in modes if layer == STACKED_AUDIO or layer.endswith(".emb")]
    table = max((weights[layer] for layer in tables), default=0)
    read = _as_read(found.tensors, adapter, config)
    making = _making(largest, found.tensors, adapter, made, to, config)
    beside = _beside(made.beside, to, config)
    if to == mx.float32 and not (on_gpu() if gpu is None else gpu):
        for layer in _laid_out(config) - modes.keys():  # there once more, when its source has gone
            again = weights[layer] + beside[layer] - read[layer] + largest[layer]
            making[layer] = max(making[layer], again)
    return LoadedBytes(
        sum((weights + beside).values()),
        _most(sorted(weights, key=_order), read, making, weights + beside),
        table,
        to,
    )


def _laid_out(config: LmConfig) -> set[str]:
    """Layers whose weights the loader lays out."""
    return {name.rpartition(".")[0] for name in dense_layers(Lm(config))}


def _order(layer: str) -> int:
    """In which the loader makes them."""
    return ORDER.index(layer.partition(".")[0]) if layer.partition(".")[0] in ORDER else len(ORDER)


def _most(
    order: Sequence[str], read: Counter[str], making: Counter[str], made: Counter[str]
) -> int:
    """While one layer after the other is made, and what it was made of goes."""
    held = most = sum(read.values())
    for layer in order:
        most = max(most, held + making[layer])
        held += made[layer] - read[layer]
        most = max(most, held)
    return most


def _as_read(tensors: Mapping[str, mx.array], adapter: Adapter, config: LmConfig) -> Counter[str]:
    """Of each layer of the model as it lies in the files, with its adapter's part."""
    names, found = model_names(config), Counter[str]()
    for name, array in tensors.items():
        found[names[name.rpartition(".")[0]]] += array.nbytes
    for layer, pair in adapter.pairs.items():
        found[names[layer]] += pair.a.nbytes + pair.b.nbytes
    for name, array in adapter.whole.items():
        found[names[name.rpartition(".")[0]]] += array.nbytes
    return found


def _making(
    largest: Counter[str],
    tensors: Mapping[str, mx.array],
    adapter: Adapter,
    made: Adapted,
    dtype: mx.Dtype,
    config: LmConfig,
) -> Counter[str]:
    """What a layer takes while it is made: tables are joined, then a row is put below them; one of
    another dtype is there twice; a merged one is a sum in float32, rounded; half of a pair is
    scaled in float32."""
    found = Counter({layer: 2 * largest[layer] for layer in stacks(config)})
    names = model_names(config)
    for layer, pair in made.beside.items():
        found[names[layer]] = max(found[names[layer]], pair.b.size * mx.float32.size)
    for name, tensor in tensors.items():
        layer = name.rpartition(".")[0]
        merged = layer in adapter.pairs and layer not in made.beside
        as_float32 = 0 if tensor.dtype == mx.float32 else tensor.size * mx.float32.size
        if merged:
            rounded = 0 if dtype == mx.float32 else tensor.size * dtype.size
            found[names[layer]] += tensor.size * mx.float32.size + as_float32 + rounded
        elif names[layer] not in stacks(config):
            changed = cast(name, tensor, dtype, {}).dtype != tensor.dtype
            found[names[layer]] += tensor.size * dtype.size if changed else 0
    return found


def _beside(beside: Mapping[str, LoraPair], dtype: mx.Dtype, config: LmConfig) -> Counter[str]:
    """Pairs that are kept; copies of a layer that slices share have none of their own."""
    stacked = {layer for layers in stacks(config).values() for layer in layers}
    names, found = model_names(config), Counter[str]()
    for layer, pair in beside.items():
        if layer in stacked or layer_name(layer, config):
            found[names[layer]] += (pair.a.size + pair.b.size) * dtype.size
    return found
