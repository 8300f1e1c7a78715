"""Before any test computes anything: products of float32 in full precision, on every GPU."""

from moshi_mlx.backend.precision import exact_float32

exact_float32()
