"""What MLX's default device is: asked here and passed on, so that each answer can be tested."""

import mlx.core as mx


def on_gpu() -> bool:
    """Whether MLX computes on a GPU (Metal or CUDA) unless told otherwise."""
    return mx.default_device().type == mx.DeviceType.gpu
