"""The split residual vector quantizer: 1 semantic codebook beside a chain of acoustic ones.

Shapes: B batch, T frames, K codebooks in use, D codebook width. Source: PyTorch
`moshi.quantization` (`vq.py`, `core_vq.py`). Always float32: near ties would flip in less.
"""

import mlx.core as mx

from .config import QuantizerConfig
from .tensors import Tensors, evaluated

SEMANTIC = 1  # codebooks in `rvq_first`
USAGE_FLOOR = 1e-5


class _Chain:
    """Codebooks that each quantize what the ones before left over."""

    def __init__(
        self, config: QuantizerConfig, tensors: Tensors, part: str, total: int, used: int
    ) -> None:
        D, outer, f32 = config.dimension, config.input_dimension, mx.float32
        into = tensors.take(f"{part}.input_proj.weight", D, outer, 1, dtype=f32)
        back = tensors.take(f"{part}.output_proj.weight", outer, D, 1, dtype=f32)
        self.into = evaluated(mx.contiguous(into[..., 0].T))
        self.back = evaluated(mx.contiguous(back[..., 0].T))
        self.books: list[mx.array] = []  # each [bins, D]
        for index in range(total):
            name = f"{part}.vq.layers.{index}._codebook"
            tensors.drop([f"{name}._initialized"])
            if index >= used:
                tensors.skip(f"{name}.cluster_usage", config.bins)
                tensors.skip(f"{name}.embedding_sum", config.bins, D)
                continue
            usage = tensors.take(f"{name}.cluster_usage", config.bins, dtype=f32)
            sums = tensors.take(f"{name}.embedding_sum", config.bins, D, dtype=f32)
            self.books.append(evaluated(sums / mx.maximum(usage, USAGE_FLOOR)[:, None]))
        self.scores = [evaluated(mx.contiguous(-2 * book.T)) for book in self.books]
        self.squares = [evaluated(mx.square(book).sum(axis=1)) for book in self.books]

    def encode(self, x: mx.array) -> list[mx.array]:
        """[B, T, outer] -> the nearest entry of each codebook, each [B, T]."""
        residual = x @ self.into
        codes = []
        for index, book in enumerate(self.books):
            distance = mx.addmm(self.squares[index], residual, self.scores[index])
            codes.append(mx.argmin(distance, axis=-1))
            if index + 1 < len(self.books):
                residual = residual - book[codes[-1]]
        return codes

    def decode(self, codes: mx.array) -> mx.array:
        """[B, K, T] -> [B, T, outer]."""
        total = self.books[0][codes[:, 0]]
        for index in range(1, codes.shape[1]):
            total = total + self.books[index][codes[:, index]]
        return total @ self.back


class Quantizer:
    """Latents to codes and back, with the first `num_codebooks` codebooks."""

    def __init__(self, config: QuantizerConfig, tensors: Tensors, num_codebooks: int) -> None:
        acoustic = num_codebooks - SEMANTIC
        self.first = _Chain(config, tensors, "quantizer.rvq_first", SEMANTIC, SEMANTIC)
        self.rest = _Chain(config, tensors, "quantizer.rvq_rest", config.n_q - SEMANTIC, acoustic)

    def encode(self, latent: mx.array) -> mx.array:
        """[B, T, outer] -> int32 [B, K, T]."""
        latent = latent.astype(mx.float32)
        codes = self.first.encode(latent)
        if self.rest.books:
            codes += self.rest.encode(latent)
        return mx.stack(codes, axis=1).astype(mx.int32)

    def decode(self, codes: mx.array) -> mx.array:
        """int [B, K, T] -> [B, T, outer]; K may be fewer than were loaded."""
        latent = self.first.decode(codes[:, :SEMANTIC])
        if codes.shape[1] > SEMANTIC:
            latent = latent + self.rest.decode(codes[:, SEMANTIC:])
        return latent
