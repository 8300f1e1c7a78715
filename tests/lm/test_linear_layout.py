"""Dense matrices lie in memory as the backend multiplies them quickest, and are the same ones."""

import mlx.core as mx


def by_columns(weight: mx.array) -> bool:
    """Of a matrix: whether the numbers of a column are neighbours in memory."""
    return memoryview(weight).strides[0] == weight.itemsize
