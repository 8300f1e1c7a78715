"""Kyutai's `config.json`, read strictly into frozen dataclasses: what programs import from here."""

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
    load_config,
    parse_config,
    read_config,
    suggest,
)

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
