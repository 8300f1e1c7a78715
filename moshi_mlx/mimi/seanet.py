"""SEANet: the convolutional ends of Mimi, 24 kHz samples to 25 Hz positions and back.

Shapes: B batch, T samples, D the transformers' width. Source: PyTorch `moshi.modules.seanet`;
the numbers in tensor names are places in its nn.Sequential, where activations count too.
"""

from collections.abc import Callable

import mlx.core as mx

from .config import SeanetConfig
from .convolution import Convolution, TransposedConvolution
from .state import State, StateLayout
from .tensors import Tensors

SeanetLayer = Callable[[mx.array, State], mx.array]


def elu(x: mx.array) -> mx.array:
    """x above 0, else e^x - 1; two extrema are faster on the CPU than one `where`."""
    return mx.maximum(x, mx.expm1(mx.minimum(x, 0)))


class _Builder:
    """Adds layers under the next place in `<part>.model.<place>`."""

    def __init__(
        self, config: SeanetConfig, tensors: Tensors, layout: StateLayout, part: str
    ) -> None:
        self.config, self.tensors, self.layout, self.part = config, tensors, layout, part
        self.layers: list[SeanetLayer] = []
        self.place = 0

    def convolution(self, channels: tuple[int, int], kernel: int, stride: int = 1) -> None:
        name = f"{self.part}.model.{self.place}.conv.conv"
        self._add(
            Convolution(
                self.tensors,
                self.layout,
                name,
                channels,
                kernel,
                stride=stride,
                pad_mode=self.config.pad_mode,
            )
        )

    def transposed(self, channels: tuple[int, int], stride: int) -> None:
        name = f"{self.part}.model.{self.place}.convtr.convtr"
        self._add(TransposedConvolution(self.tensors, self.layout, name, channels, stride))

    def residuals(self, channels: int) -> None:
        for index in range(self.config.n_residual_layers):
            name = f"{self.part}.model.{self.place}"
            dilation = self.config.dilation_base**index
            self._add(
                ResidualBlock(self.config, self.tensors, self.layout, name, channels, dilation)
            )

    def activation(self) -> None:
        self._add(lambda x, state: elu(x))

    def _add(self, layer: SeanetLayer) -> None:
        self.layers.append(layer)
        self.place += 1


class ResidualBlock:
    """ELU, dilated convolution, ELU, pointwise convolution, added to the input: [B, T, C]."""

    def __init__(
        self,
        config: SeanetConfig,
        tensors: Tensors,
        layout: StateLayout,
        name: str,
        channels: int,
        dilation: int,
    ) -> None:
        def conv(place: str, channels: tuple[int, int], kernel: int, dilation: int) -> Convolution:
            return Convolution(
                tensors,
                layout,
                f"{name}.{place}.conv.conv",
                channels,
                kernel,
                dilation=dilation,
                pad_mode=config.pad_mode,
            )

        hidden = channels // config.compress
        self.wide = conv("block.1", (channels, hidden), config.residual_kernel_size, dilation)
        self.point = conv("block.3", (hidden, channels), 1, 1)
        self.shortcut = None if config.true_skip else conv("shortcut", (channels, channels), 1, 1)

    def __call__(self, x: mx.array, state: State) -> mx.array:
        y = self.point(elu(self.wide(elu(x), state)), state)
        return y + (x if self.shortcut is None else self.shortcut(x, state))


def _chain(layers: list[SeanetLayer], x: mx.array, state: State) -> mx.array:
    for layer in layers:
        x = layer(x, state)
    return x


class SeanetEncoder:
    """[B, T] samples -> [B, T / hop, D]."""

    def __init__(self, config: SeanetConfig, tensors: Tensors, layout: StateLayout) -> None:
        builder = _Builder(config, tensors, layout, "encoder")
        width = config.n_filters
        builder.convolution((config.channels, width), config.kernel_size)
        for ratio in reversed(config.ratios):
            builder.residuals(width)
            builder.activation()
            builder.convolution((width, 2 * width), 2 * ratio, ratio)
            width *= 2
        builder.activation()
        builder.convolution((width, config.dimension), config.last_kernel_size)
        self.layers = builder.layers

    def __call__(self, pcm: mx.array, state: State) -> mx.array:
        return _chain(self.layers, pcm[..., None], state)


class SeanetDecoder:
    """[B, T, D] -> [B, T * hop] samples."""

    def __init__(self, config: SeanetConfig, tensors: Tensors, layout: StateLayout) -> None:
        builder = _Builder(config, tensors, layout, "decoder")
        width = config.n_filters * 2 ** len(config.ratios)
        builder.convolution((config.dimension, width), config.kernel_size)
        for ratio in config.ratios:
            builder.activation()
            builder.transposed((width, width // 2), ratio)
            width //= 2
            builder.residuals(width)
        builder.activation()
        builder.convolution((width, config.channels), config.last_kernel_size)
        self.layers = builder.layers

    def __call__(self, latent: mx.array, state: State) -> mx.array:
        return _chain(self.layers, latent, state)[..., 0]
