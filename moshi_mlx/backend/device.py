"""What MLX's default device is: asked here and passed on, so that each answer can be tested."""

import mlx.core as mx


def on_gpu(device: mx.Device | None = None) -> bool:
    """Whether MLX computes on a GPU (Metal or CUDA) unless told otherwise.

    device: another than MLX's default one.
    """
    return (device or mx.default_device()).type == mx.DeviceType.gpu
