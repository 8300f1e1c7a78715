"""Reading weight files: a checked safetensors reader."""

from pathlib import Path

import mlx.core as mx

from moshi_mlx.errors import WeightsError


def read_safetensors(path: str | Path) -> dict[str, mx.array]:
    """All tensors of a safetensors file, read lazily. Raises WeightsError."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; check the path, or fetch the model again")
    try:
        arrays = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"{path} can't be read ({error}); fetch it again") from error
    assert isinstance(arrays, dict)
    return arrays
