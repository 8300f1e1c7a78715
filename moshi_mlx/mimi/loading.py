"""Loading Mimi: the config beside the file, every tensor accounted for, MLX or rustymimi."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..codec.choice import choose_codec
from ..codec.interface import Codec
from ..codec.rust import RustCodec, rust_available
from ..config.reading import parse_config, read_config
from ..errors import ConfigError, MoshiError
from ..memory import limit_memory
from ..tensor_files.header import read_header
from ..tensor_files.reading import read_safetensors
from ..weights.finite import check_samples
from ..weights.loading import DTYPES
from ..weights.safetensors import read_now
from .config import CONFIG_NAME, KYUTAI, MimiConfig
from .model import Mimi
from .tensors import Tensors

BACKENDS = ("mlx", "rust", "auto")
CODEBOOKS = 8  # that Moshi hears
Given = MimiConfig | Mapping[str, Any] | str | Path | None


def config_beside(path: Path) -> MimiConfig:
    """`mimi_config.json` in the weights' folder, else Kyutai's sizes."""
    beside = path.parent / CONFIG_NAME
    return MimiConfig.from_file(beside) if beside.is_file() else KYUTAI


def config_from(given: Given, path: Path) -> MimiConfig:
    """The config that was given in any form, else the one beside the weights at `path`."""
    if given is None:
        return config_beside(path)
    if isinstance(given, str | Path):
        return MimiConfig.from_file(Path(given))
    return given if isinstance(given, MimiConfig) else MimiConfig.from_dict(given)


def load_mimi(
    path: str | Path,
    config: Given = None,
    num_codebooks: int | None = None,
    backend: str = "mlx",
    dtype: mx.Dtype | str = mx.float32,
    *,
    codec: str | None = None,
    revision: str | None = None,
    offline: bool | None = None,
    memory_limits: bool = True,
) -> Codec:
    """Mimi: of a safetensors file (Kyutai's PyTorch layout), or the one beside a language model.

    `path`: the file, or as in `moshi_mlx.load` a folder, a Hugging Face repository, of which Mimi
    alone is fetched, or "nano". `config`: a MimiConfig, the dict or the JSON file that holds one;
    None means what the model names, else `mimi_config.json` beside the weights, else Kyutai's
    sizes. `num_codebooks` are encoded; None: as many as the model has to hear, else 8. `backend`,
    which is `codec` in `load` and may be called so here, is "mlx", "rust" (rustymimi, Kyutai's
    sizes only) or "auto" (the one by which a talk's frame is shorter here, as measured). `dtype` is
    what MLX computes in. Raises WeightsError when file and config don't fit, ConfigError for a bad
    config, DownloadError, MoshiError for codebooks or a backend that there aren't.
    """
    backend = codec or backend
    if backend not in BACKENDS:
        raise MoshiError(f"no codec {backend!r}; there are {', '.join(BACKENDS)}")
    dtype = _dtype(dtype)
    if memory_limits:
        limit_memory()
    path, named, codebooks = _found(path, revision, offline)
    num_codebooks = codebooks if num_codebooks is None else num_codebooks
    config = config_from(config or named, path)
    if not 1 <= num_codebooks <= config.quantizer.n_q:
        raise MoshiError(
            f"num_codebooks is {num_codebooks}; this Mimi has 1 to {config.quantizer.n_q}"
        )
    if backend == "rust":
        return _rust(path, config, num_codebooks)
    mimi = load_mlx_mimi(path, config, num_codebooks, dtype)
    if backend == "mlx" or not rust_available() or not is_kyutai(config):
        return mimi
    return choose_codec(mimi, RustCodec(path, num_codebooks))


def load_mlx_mimi(
    path: Path,
    config: MimiConfig,
    num_codebooks: int,
    dtype: mx.Dtype,
    compiled: bool | None = None,
) -> Mimi:
    """The MLX one, whose streams have lazy forms; `compiled` as in Mimi. Raises WeightsError."""
    arrays = read_safetensors(path)
    read_now(arrays.values())
    check_samples(arrays, str(path))
    return Mimi(config, Tensors(arrays, path.name, dtype), num_codebooks, compiled)


def _dtype(dtype: mx.Dtype | str) -> mx.Dtype:
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise MoshiError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
        return DTYPES[dtype]
    return dtype


def _found(
    name: str | Path, revision: str | None, offline: bool | None
) -> tuple[Path, Path | None, int]:
    """The weights' file, the config that a model names for it, and how many codebooks it hears."""
    path = Path(name).expanduser()
    if path.is_file() or path.suffix == ".safetensors":
        return path, None, CODEBOOKS
    from ..hub import mimi_file, resolve

    folder = resolve(name, revision, offline, files=("mimi",))
    raw = read_config(folder) if (folder / "config.json").is_file() else {}
    if raw.get("model_type") == "mimi":
        raise ConfigError(
            f"{name} is Mimi in the layout of transformers; take the one that lies beside a Moshi "
            'model: load_mimi("kyutai/moshiko-mlx-q4") fetches no more than that'
        )
    codebooks = parse_config(raw).mimi_codebooks if raw else CODEBOOKS
    return *mimi_file(folder, raw), codebooks


def _rust(path: Path, config: MimiConfig, num_codebooks: int) -> RustCodec:
    if not is_kyutai(config):
        raise MoshiError(
            "rustymimi can only load a Mimi of Kyutai's sizes, and this one has others; "
            "use the codec mlx or auto"
        )
    read_header(path)  # raises for a damaged file, with the advice every other reader gives
    return RustCodec(path, num_codebooks)


def is_kyutai(config: MimiConfig) -> bool:
    """Whether these are the sizes built into rustymimi; `layer_scale` is a mere start value."""
    scaled = KYUTAI.transformer.layer_scale if config.transformer.layer_scale is not None else None
    return (
        replace(
            config,
            quantizer=replace(config.quantizer, n_q=KYUTAI.quantizer.n_q),
            transformer=replace(config.transformer, layer_scale=scaled),
        )
        == KYUTAI
    )
