"""What follows from the device alone."""

import mlx.core as mx
import pytest

from moshi_mlx.backend.device import on_gpu
from moshi_mlx.weights.loading import working_dtype


def test_a_gpu_is_one_and_a_cpu_is_none() -> None:
    assert on_gpu(mx.Device(mx.gpu)) and not on_gpu(mx.Device(mx.cpu))
    assert on_gpu() == (mx.default_device() != mx.Device(mx.cpu))


@pytest.mark.parametrize(
    ("asked", "gpu", "taken"),
    [
        (None, True, None),
        (None, False, "float32"),
        ("bfloat16", False, "bfloat16"),
        ("float32", True, "float32"),
    ],
)
def test_weights_are_as_stored_on_a_gpu_and_float32_on_a_cpu(
    asked: str | None, gpu: bool, taken: str | None
) -> None:
    assert working_dtype(asked, gpu) == taken
