"""From a folder or repository to a language model: the config says what, the file says how."""

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..backend.device import on_gpu
from ..config.lm_config import LmConfig
from ..config.model_files import weight_paths
from ..config.reading import parse_config, read_config
from ..errors import ConfigError, WeightsError
from ..lm.layers.kv_ring import check_kv_bits
from ..lm.model import Lm
from ..memory import limit_memory
from .adaptation import Adaptation, Adapted, LoraMode, adaptation_from, adapted, attach
from .finite import check_samples
from .layers import make_weights, quantize_layers
from .lora import read_adapter
from .packing import pack, unpack
from .recipes import Format
from .safetensors import check_tensors, read_all, read_now, to_mlx_layout
from .tensor_names import dropped, expected

MIN_HISTORY_BYTES = 256_000_000
CONDITIONS = "condition_provider."  # computed in float32, whatever the rest is
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def load_lm(
    name_or_folder: str | Path,
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    kv_bits: int = 16,
    memory_limits: bool = True,
    lora: str | Path | None = None,
    lora_mode: LoraMode = "auto",
    dep_q: int | None = None,
) -> Lm:
    """The language model alone, of a folder, a repository, "nano", or one weight file of a folder.

    dtype: "float32", "float16" or "bfloat16"; None as stored. Quantized layers keep their bits,
    their scales (and so all arithmetic) take the dtype. kv_bits: 8 keeps the keys and values of
    conversations in 8 bit. memory_limits: on Metal, set MLX's wired and cache limits for
    this process (`moshi_mlx.memory`). lora: a file with an adapter, or a folder or repository with
    a `lora.safetensors`; lora_mode: "auto" merges it into layers that aren't quantized and keeps it
    beside the others, "merged" and "beside" do one of both for all. dep_q: build only so
    many slices of the depth transformer (those that predict the user are always left out). Raises
    ConfigError, WeightsError, DownloadError, and MoshiError for kv_bits that don't fit the model.
    """
    if memory_limits:
        limit_memory()
    from ..hub import resolve

    path = Path(name_or_folder).expanduser()
    one = path.suffix == ".safetensors" and path.is_file()  # where several precisions lie together
    parts = ("weights",)
    folder = path.parent if one else resolve(name_or_folder, revision, offline, files=parts)
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    config = config if dep_q is None else config.with_slices(dep_q)
    adaptation = adaptation_from(lora, lora_mode, raw, folder, offline)
    paths = [path] if one else weight_paths(folder, raw)
    return lm_from_files(paths, config, dtype, kv_bits, adaptation)


def working_dtype(dtype: str | None, gpu: bool | None = None) -> str | None:
    """None, as stored, on a GPU; float32 on MLX's CPU backend, which only emulates half precision.

    A dtype that was asked for stays. gpu: None: as MLX's default device is.
    """
    return "float32" if dtype is None and not (on_gpu() if gpu is None else gpu) else dtype


def lm_from_files(
    paths: list[Path],
    config: LmConfig,
    dtype: str | None = None,
    kv_bits: int = 16,
    adaptation: Adaptation | None = None,
) -> Lm:
    """Build the model and fill it from a file (or all shards of it) in either layout.

    Raises WeightsError, MoshiError.
    """
    if dtype is not None and dtype not in DTYPES:
        raise WeightsError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
    check_kv_bits(kv_bits, config.transformer.head_dim, config.transformer.context or 0)
    found = stored_tensors(paths, config)
    name, config = found.name, found.config
    check_history(config, sum(path.stat().st_size for path in paths), name)
    read_now(found.raw.values())
    check_samples(found.raw, name)
    check_range(found.tensors, DTYPES[dtype] if dtype else usual_dtype(found.tensors), name)
    to = DTYPES[dtype] if dtype else stored_dtype(found.tensors, name)
    made = Adapted(found.tensors, found.quantized, {})
    if adaptation is not None:
        adapter = read_adapter(adaptation.path, config, adaptation.scaling)
        made = adapted(made.tensors, made.quantized, adapter, adaptation.mode, to)
        del adapter
    packed, modes = pack(made.tensors, made.quantized, config)
    lm = Lm(config, kv_bits)
    quantize_layers(lm, modes)
    lm.load_weights([(name, cast(name, t, to, modes)) for name, t in packed.items()], strict=True)
    attach(lm, made.beside, to)
    lm.eval()
    del found, made, packed  # each is let go of as soon as the model's own array is there
    make_weights(lm)
    return lm


@dataclass(frozen=True)
class StoredTensors:
    """A model's files, none of whose tensors need be read yet.

    raw: by the names in the files; tensors, quantized: by those of Kyutai's MLX layout, checked
    against the config, which is that of these files.
    """

    name: str
    config: LmConfig
    raw: dict[str, mx.array]
    tensors: dict[str, mx.array]
    quantized: dict[str, Format]


def stored_tensors(paths: list[Path], config: LmConfig) -> StoredTensors:
    """What a file (or all shards of it) holds of this model, lazily. Raises WeightsError."""
    name = str(paths[0] if len(paths) == 1 else paths[0].parent)
    left_out = {tensor.removesuffix(".weight") for tensor in dropped(config)}
    raw = {n: t for n, t in read_all(paths).items() if n.rpartition(".")[0] not in left_out}
    config = without_absent_heads(config, raw)
    tensors = to_mlx_layout(raw, config, name)
    return StoredTensors(name, config, raw, tensors, check_tensors(tensors, expected(config), name))


def without_absent_heads(config: LmConfig, tensors: Collection[str]) -> LmConfig:
    """Kyutai's MLX files of stt-1b leave the extra heads out that their config names."""
    if any(tensor.startswith("extra_heads.") for tensor in tensors):
        return config
    return replace(config, extra_heads=0)


def check_history(config: LmConfig, file_bytes: int, path: str) -> None:
    """ConfigError for a context whose keys and values dwarf the weights: no model has one."""
    t = config.transformer
    history = 4 * t.num_layers * (t.context or 0) * t.dim  # 16 bit, keys and values
    if history > max(4 * file_bytes, MIN_HISTORY_BYTES):
        raise ConfigError(
            f"{path}: context = {t.context} would take {history / 1e9:.1f} GB of memory for "
            f"{file_bytes / 1e9:.2f} GB of weights; fetch its config.json again"
        )


def stored_dtype(tensors: Mapping[str, mx.array], path: str) -> mx.Dtype:
    """The dtype that most weights have; where others are rounded to it, a line says so.

    `tensors`: of a model, packed layers with their scales, each of which stands for a group.
    """
    counts, most = _counted(tensors), usual_dtype(tensors)
    rounded = {dtype for dtype in counts if dtype != most and most != mx.float32}
    for dtype in sorted(rounded, key=str):
        print(
            f"{path}: {counts[dtype]} weights are {_name(dtype)} and are rounded to "
            f'{_name(most)}, which most are; dtype="float32" keeps all as they are',
            file=sys.stderr,
        )
    return most


def check_range(tensors: Mapping[str, mx.array], dtype: mx.Dtype, path: str) -> None:
    """WeightsError for a value that `dtype` can't hold, which would become infinite: float16 ends
    at 65504."""
    if dtype != mx.float16:
        return
    wider = {
        name: mx.abs(tensor).max().astype(mx.float32)
        for name, tensor in tensors.items()
        if mx.issubdtype(tensor.dtype, mx.floating)
        and tensor.dtype != dtype
        and tensor.size
        and not name.startswith(CONDITIONS)
    }
    mx.eval(wider)
    for name, most in wider.items():
        if (peak := float(np.asarray(most))) > mx.finfo(dtype).max:
            raise WeightsError(
                f"{path}: {name} reaches {peak:.3g}, beyond what float16 holds, which most "
                "of its weights are: convert it to bfloat16, or fetch the model as that"
            )


def usual_dtype(tensors: Mapping[str, mx.array]) -> mx.Dtype:
    """The dtype that most weights have; of as many, the larger."""
    counts = _counted(tensors)
    return max(counts, key=lambda dtype: (counts[dtype], dtype.size), default=mx.float32)


def _counted(tensors: Mapping[str, mx.array]) -> Counter[mx.Dtype]:
    counts: Counter[mx.Dtype] = Counter()
    for name, tensor in tensors.items():
        if mx.issubdtype(tensor.dtype, mx.floating) and not name.startswith(CONDITIONS):
            counts[tensor.dtype] += tensor.size * (32 if name.endswith(".scales") else 1)
    return counts


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def cast(name: str, tensor: mx.array, dtype: mx.Dtype, modes: dict[str, Format]) -> mx.array:
    """Floating point tensors to `dtype`; packed bits and byte scales stay; conditions fp32."""
    if not mx.issubdtype(tensor.dtype, mx.floating):
        return tensor
    if name.startswith(CONDITIONS) and name.rpartition(".")[0] not in modes:
        return tensor.astype(mx.float32)
    return tensor.astype(dtype)


def save_lm(lm: Lm, path: str | Path) -> None:
    """Write Kyutai's MLX layout, as `moshi_mlx` reads it (quantized layers as they are)."""
    mx.save_safetensors(str(path), unpack(dict(tree_flatten(lm.parameters())), lm.config))
