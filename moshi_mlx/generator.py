"""The language model's generator under the name that programs know: see `lm/generator.py`."""

from .lm.generator import (
    MAX_SEED,
    Forced,
    LmGenerator,
    Step,
    Submitted,
    check_seed,
    check_user_codes,
    override,
    wanted_tokens,
)

__all__ = [
    "MAX_SEED",
    "Forced",
    "LmGenerator",
    "Step",
    "Submitted",
    "check_seed",
    "check_user_codes",
    "override",
    "wanted_tokens",
]
