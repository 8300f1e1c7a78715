"""Whole files of tensors, read lazily."""

from pathlib import Path

import mlx.core as mx

from ..errors import WeightsError
from .header import read_header


def read_safetensors(path: str | Path) -> dict[str, mx.array]:
    """All tensors of a safetensors file, read lazily. Raises WeightsError."""
    path = Path(path)
    read_header(path)  # MLX reads lazily: damage would come to light in the middle of a talk
    try:
        arrays = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"{path} can't be read ({error}); fetch it again") from error
    assert isinstance(arrays, dict)
    return arrays
