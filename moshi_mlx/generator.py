"""The language model's generator under the name that programs know: see `lm/generator.py`."""

from .lm.batch import BatchGenerator
from .lm.conversation import (
    MAX_SEED,
    Forced,
    Step,
    check_seed,
    check_user_codes,
    wanted_tokens,
)
from .lm.generator import LmGenerator, Submitted
from .lm.sampling import override

__all__ = [
    "MAX_SEED",
    "BatchGenerator",
    "Forced",
    "LmGenerator",
    "Step",
    "Submitted",
    "check_seed",
    "check_user_codes",
    "override",
    "wanted_tokens",
]
