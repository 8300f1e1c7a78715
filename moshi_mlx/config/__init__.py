"""Kyutai's `config.json`, read strictly into frozen dataclasses: what programs import from here."""

from ..errors import suggest
from .lm_config import (
    EMPTY,
    NO_INPUT,
    NOT_GENERATED,
    ConditionerConfig,
    DepthConfig,
    FuserConfig,
    LmConfig,
    SamplingConfig,
    TransformerConfig,
)
from .reading import load_config, parse_config, read_config

__all__ = [
    "EMPTY",
    "NOT_GENERATED",
    "NO_INPUT",
    "ConditionerConfig",
    "DepthConfig",
    "FuserConfig",
    "LmConfig",
    "SamplingConfig",
    "TransformerConfig",
    "load_config",
    "parse_config",
    "read_config",
    "suggest",
]
