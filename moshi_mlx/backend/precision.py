"""float32 that is float32: Apple's newest GPUs multiply matrices of floats with fewer bits.

From the M5 on MLX computes products of float32 matrices (two rows and more) in TF32, with 11 bits
of significand, unless MLX_ENABLE_TF32 is 0 when it does its first one. That moves 1 in 160 of
Mimi's codes, and a file's codes from those of a stream. Products of one row, of half precision and
of quantized weights in half precision are as they were.
"""

import os
from collections.abc import MutableMapping

VARIABLE = "MLX_ENABLE_TF32"


def exact_float32(environment: MutableMapping[str, str] = os.environ) -> None:
    """Ask MLX for full precision; call before its first product. What a user has set stays."""
    environment.setdefault(VARIABLE, "0")
