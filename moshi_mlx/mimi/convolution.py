"""Causal streaming convolutions as one matrix product each.

Shapes: B batch, T steps, C channels in, N channels out, k kernel, s stride. Channels stand last.
Source: PyTorch `moshi.modules.conv`; whole files and frames go through the same code, so what a
stream gives is what a file gives. A kernel of twice the stride needs no gathering of windows.
"""

import mlx.core as mx

from .state import POSITION, State, StateLayout
from .tensors import Tensors, evaluated

VIEW_SLACK_BYTES = 2**16  # that a view of a stream's last steps may keep alive


def _windows(x: mx.array, kernel: int, stride: int, dilation: int) -> mx.array:
    """All windows of `kernel` steps: [B, P + T, C] -> [B, T / stride, kernel * C]."""
    B, length, C = x.shape
    steps = (length - (kernel - 1) * dilation - 1) // stride + 1
    strides = (length * C, stride * C, dilation * C, 1)
    return mx.as_strided(x, (B, steps, kernel, C), strides).reshape(B, steps, kernel * C)


def _kept(x: mx.array, steps: int) -> mx.array:
    """The last `steps` of [B, T, C] as state; copied where a view would keep a frame in memory."""
    tail = x[:, -steps:]
    return mx.contiguous(tail) if x.nbytes - tail.nbytes > VIEW_SLACK_BYTES else tail


class Convolution:
    """Conv1d with its left context as state: [B, T, C] -> [B, T / stride, N].

    `pad_mode` says what stands before the first sample: zeros ("constant") or that sample
    ("replicate").
    """

    def __init__(
        self,
        tensors: Tensors,
        layout: StateLayout,
        name: str,
        channels: tuple[int, int],
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        pad_mode: str = "constant",
    ) -> None:
        C, N = channels
        weight = tensors.take(f"{name}.weight", N, C, kernel)
        self.weight = evaluated(mx.contiguous(weight.transpose(2, 1, 0).reshape(kernel * C, N)))
        self.bias = tensors.take(f"{name}.bias", N) if bias else None
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.replicate = pad_mode == "replicate"
        self.past = (kernel - 1) * dilation + 1 - stride  # steps kept of the input
        self.slot = layout.add(1, self.past, C) if self.past else None

    def __call__(self, x: mx.array, state: State) -> mx.array:
        if self.slot is not None:
            past = state[self.slot]
            if self.replicate:
                past = mx.where(state[POSITION] == 0, x[:, :1], past)
            x = mx.concatenate([past, x], axis=1)
            state[self.slot] = _kept(x, self.past)
        if self.kernel > 1 or self.stride > 1:
            x = _windows(x, self.kernel, self.stride, self.dilation)
        return x @ self.weight if self.bias is None else mx.addmm(self.bias, x, self.weight)


class TransposedConvolution:
    """ConvTranspose1d with a kernel of twice the stride: [B, T, C] -> [B, T * stride, N].

    Output step t * s + j is x[t] @ W[j] + x[t - 1] @ W[s + j]: one product with [x[t - 1], x[t]].
    """

    def __init__(
        self,
        tensors: Tensors,
        layout: StateLayout,
        name: str,
        channels: tuple[int, int],
        stride: int,
    ) -> None:
        C, N = channels
        weight = tensors.take(f"{name}.weight", C, N, 2 * stride)
        weight = weight.reshape(C, N, 2, stride)[:, :, ::-1].transpose(2, 0, 3, 1)  # [2, C, s, N]
        self.weight = evaluated(mx.contiguous(weight.reshape(2 * C, stride * N)))
        bias = tensors.take(f"{name}.bias", N)
        self.bias = evaluated(mx.contiguous(mx.tile(bias, (stride,))))
        self.stride = stride
        self.slot = layout.add(1, 1, C)

    def __call__(self, x: mx.array, state: State) -> mx.array:
        B, T, _ = x.shape
        x = mx.concatenate([state[self.slot], x], axis=1)
        state[self.slot] = _kept(x, 1)
        y = mx.addmm(self.bias, _windows(x, 2, 1, 1), self.weight)
        return y.reshape(B, T * self.stride, -1)


class DepthwiseUpsample:
    """ConvTranspose1d, one filter of twice the stride per channel: [B, T, C] -> [B, T * s, C]."""

    def __init__(
        self, tensors: Tensors, layout: StateLayout, name: str, channels: int, stride: int
    ) -> None:
        weight = tensors.take(f"{name}.weight", channels, 1, 2 * stride)
        weight = mx.contiguous(weight.reshape(channels, 2 * stride).T)  # [2 * s, C]
        self.now, self.before = evaluated(weight[:stride]), evaluated(weight[stride:])
        self.slot = layout.add(1, 1, channels)

    def __call__(self, x: mx.array, state: State) -> mx.array:
        B, _, C = x.shape
        before = mx.concatenate([state[self.slot], x[:, :-1]], axis=1)
        state[self.slot] = _kept(x, 1)
        y = x[:, :, None] * self.now + before[:, :, None] * self.before  # [B, T, s, C]
        return y.reshape(B, -1, C)
