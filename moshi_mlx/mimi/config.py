"""Mimi's sizes: frozen, strict, read from `mimi_config.json` (layout of PyTorch's `loaders.py`)."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from ..config.json_file import read_json_object, shown
from ..config.json_reader import MAX_SIZE, is_number
from ..errors import ConfigError

MAX_LAYERS, MAX_CONTEXT, MAX_CODEBOOKS = 1000, 100_000, 1024  # far above every model there is
CONFIG_NAME = "mimi_config.json"
PAD_MODES = ("constant", "replicate")

T = TypeVar("T")


@dataclass(frozen=True)
class SeanetConfig:
    """The convolutional encoder and decoder. Defaults are Kyutai's."""

    channels: int = 1
    dimension: int = 512
    causal: bool = True
    n_filters: int = 64
    n_residual_layers: int = 1
    activation: str = "ELU"
    compress: int = 2
    dilation_base: int = 2
    disable_norm_outer_blocks: int = 0
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 3
    norm: str = "none"
    pad_mode: str = "constant"
    ratios: tuple[int, ...] = (8, 6, 5, 4)  # in the decoder's order
    true_skip: bool = True

    @property
    def hop_samples(self) -> int:
        """Samples per position of the transformers (960, so 25 positions a second)."""
        return prod(self.ratios)


@dataclass(frozen=True)
class QuantizerConfig:
    """The split residual vector quantizer: 1 semantic codebook and `n_q` - 1 acoustic ones."""

    dimension: int = 256
    n_q: int = 32
    bins: int = 2048
    input_dimension: int = 512
    output_dimension: int = 512


@dataclass(frozen=True)
class MimiTransformerConfig:
    """The encoder's and the decoder's transformer. `context` counts positions, itself included."""

    d_model: int = 512
    num_heads: int = 8
    num_layers: int = 8
    causal: bool = True
    layer_scale: float | None = 0.01
    context: int = 250
    conv_layout: bool = True
    max_period: float = 10000
    gating: str = "none"
    norm: str = "layer_norm"
    positional_embedding: str = "rope"
    dim_feedforward: int = 2048
    input_dimension: int = 512
    output_dimensions: tuple[int, ...] = (512,)

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads


@dataclass(frozen=True)
class MimiConfig:
    """A whole Mimi. Raises ConfigError for parts that don't fit or that this library lacks."""

    sample_rate: int = 24000
    channels: int = 1
    frame_rate: float = 12.5
    seanet: SeanetConfig = field(default_factory=SeanetConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    transformer: MimiTransformerConfig = field(default_factory=MimiTransformerConfig)

    def __post_init__(self) -> None:
        for what, value, allowed in _only(self):
            if value not in allowed:
                choices = " or ".join(repr(choice) for choice in allowed)
                raise ConfigError(
                    f"Mimi's {what} is {shown(value)}; this library knows only {choices}"
                )
        for what, value in _positive(self):
            if not value > 0:
                raise ConfigError(f"Mimi's {what} is {value!r}; it must be above 0")
        _check_sizes(self)

    @property
    def frame_samples(self) -> int:
        """Samples of a frame: 1920 at 24 kHz and 12.5 frames a second."""
        return int(self.sample_rate / self.frame_rate)

    @property
    def frame_positions(self) -> int:
        """Positions of the transformers in a frame (2)."""
        return self.frame_samples // self.seanet.hop_samples

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "MimiConfig":
        """The config in `raw`. Raises ConfigError for unknown or missing keys, or bad values."""
        return _strict(cls, raw, "")

    @classmethod
    def from_file(cls, path: Path) -> "MimiConfig":
        """The config in the JSON file `path`. Raises ConfigError naming the file."""
        raw = read_json_object(path)
        try:
            return cls.from_dict(raw)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _strict(cls: type[T], raw: Any, where: str) -> T:
    """Build the dataclass `cls` from the JSON object `raw`, key by key, type by type."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'Mimi config'} must be an object with keys, not {shown(raw)}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            fix = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise ConfigError(f"unknown key {where + str(key)!r}{fix}")
    if missing := [where + key for key in known if key not in raw]:
        raise ConfigError(f"missing key{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return cls(**{key: _value(f.type, raw[key], where + key) for key, f in known.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the field type `kind`, or a ConfigError that names `where` it stands."""
    if kind in (SeanetConfig, QuantizerConfig, MimiTransformerConfig):
        return _strict(kind, value, where + ".")
    if kind == tuple[int, ...]:
        short = isinstance(value, list | tuple) and len(value) <= MAX_LAYERS
        if short and all(_is_int(item) for item in value):
            return tuple(value)
    elif kind is int:
        if _is_int(value):
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SIZE:
            return int(value)
    elif kind in (float, float | None):
        if (value is None and kind is not float) or is_number(value):
            return value
    elif isinstance(value, kind):
        return value
    name = getattr(kind, "__name__", str(kind)) if kind != tuple[int, ...] else "list of int"
    raise ConfigError(
        f"{where} is {shown(value)}; it must be {name}, and no larger than a model has"
    )


def _is_int(value: Any) -> bool:
    return type(value) is int and abs(value) <= MAX_SIZE


def _only(config: MimiConfig) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """What this library builds: (key, value, allowed values)."""
    seanet, transformer = config.seanet, config.transformer
    return [
        ("channels", config.channels, (1,)),
        ("seanet.channels", seanet.channels, (1,)),
        ("seanet.causal", seanet.causal, (True,)),
        ("seanet.activation", seanet.activation, ("ELU",)),
        ("seanet.norm", seanet.norm, ("none",)),
        ("seanet.pad_mode", seanet.pad_mode, PAD_MODES),
        ("transformer.causal", transformer.causal, (True,)),
        ("transformer.conv_layout", transformer.conv_layout, (True,)),
        ("transformer.gating", transformer.gating, ("none",)),
        ("transformer.norm", transformer.norm, ("layer_norm",)),
        ("transformer.positional_embedding", transformer.positional_embedding, ("rope",)),
    ]


def _positive(config: MimiConfig) -> list[tuple[str, float]]:
    """Every size that must be above 0: (key, value)."""
    sizes = [("sample_rate", config.sample_rate), ("frame_rate", config.frame_rate)]
    skip = {"n_residual_layers", "num_layers", "disable_norm_outer_blocks", "layer_scale"}
    for name, part in (
        ("seanet", config.seanet),
        ("quantizer", config.quantizer),
        ("transformer", config.transformer),
    ):
        for f in fields(part):
            value = getattr(part, f.name)
            if f.name in skip or isinstance(value, bool):
                continue
            if isinstance(value, int | float):
                sizes.append((f"{name}.{f.name}", value))
            elif isinstance(value, tuple):
                sizes += [(f"{name}.{f.name}", item) for item in value]
    return sizes


def _check_sizes(config: MimiConfig) -> None:
    seanet, quantizer, transformer = config.seanet, config.quantizer, config.transformer
    frame = config.sample_rate / config.frame_rate
    width = seanet.dimension
    problems = [
        *(
            (size > most, f"{what} is {size}; it must be at most {most}")
            for what, size, most in (
                ("seanet.n_residual_layers", seanet.n_residual_layers, MAX_LAYERS),
                ("transformer.num_layers", transformer.num_layers, MAX_LAYERS),
                ("transformer.context", transformer.context, MAX_CONTEXT),
                ("quantizer.n_q", quantizer.n_q, MAX_CODEBOOKS),
            )
        ),
        (
            not seanet.ratios
            or not frame <= MAX_SIZE
            or frame != int(frame)
            or frame % seanet.hop_samples != 0,
            f"a frame of {frame:g} samples isn't a whole number of hops of {seanet.hop_samples} "
            "(the product of seanet.ratios)",
        ),
        (
            transformer.d_model % transformer.num_heads != 0 or transformer.head_dim % 2 != 0,
            f"transformer.d_model {transformer.d_model} must split into {transformer.num_heads} "
            "heads of an even width",
        ),
        (
            transformer.input_dimension != width or transformer.output_dimensions != (width,),
            f"transformer.input_dimension and output_dimensions must be seanet.dimension {width}",
        ),
        (
            quantizer.input_dimension != width or quantizer.output_dimension != width,
            f"quantizer.input_dimension and output_dimension must be seanet.dimension {width}",
        ),
        (quantizer.n_q < 2, f"quantizer.n_q is {quantizer.n_q}; it must be 2 or more"),
        (
            seanet.n_filters % seanet.compress != 0,
            f"seanet.n_filters {seanet.n_filters} must be a multiple of compress {seanet.compress}",
        ),
    ]
    for wrong, message in problems:
        if wrong:
            raise ConfigError(f"Mimi config: {message}")


KYUTAI = MimiConfig()
