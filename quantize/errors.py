"""Failures of `moshi quantize` that a user can mend."""

from moshi_mlx.errors import MoshiError


class QuantizeError(MoshiError):
    """A model can't be quantized as asked: source, target, recipe or disk."""
