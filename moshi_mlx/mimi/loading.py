"""Loading Mimi: the config beside the file, every tensor accounted for, MLX or rustymimi."""

from pathlib import Path

import mlx.core as mx

from ..errors import ConfigError, MoshiError
from .config import CONFIG_NAME, KYUTAI, MimiConfig
from .model import Mimi
from .tensors import Tensors
from ..weights import read_safetensors


def config_beside(path: Path) -> MimiConfig:
    """`mimi_config.json` in the weights' folder, else Kyutai's sizes."""
    beside = path.parent / CONFIG_NAME
    return MimiConfig.from_file(beside) if beside.is_file() else KYUTAI


def load_mimi(
    path: str | Path,
    config: MimiConfig | None = None,
    num_codebooks: int = 8,
    backend: str = "mlx",
    dtype: mx.Dtype = mx.float32,
) -> Mimi:
    """The Mimi in the safetensors file `path` (Kyutai's PyTorch layout), encoding `num_codebooks`.

    `config` None means `mimi_config.json` beside the file, else Kyutai's sizes; `dtype` is what
    is computed in. Raises WeightsError when file and config don't fit, ConfigError for a bad
    config, MoshiError for a number of codebooks or a backend that isn't there.
    """
    path = Path(path)
    config = config_beside(path) if config is None else config
    check_num_codebooks(num_codebooks, config)
    return Mimi(config, Tensors(read_safetensors(path), path.name, dtype), num_codebooks)


def check_num_codebooks(num_codebooks: int, config: MimiConfig) -> None:
    """Raises MoshiError unless the model has that many codebooks."""
    if not 1 <= num_codebooks <= config.quantizer.n_q:
        raise MoshiError(
            f"num_codebooks is {num_codebooks}; this Mimi has 1 to {config.quantizer.n_q}"
        )
