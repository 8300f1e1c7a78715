"""Helium as a text model: the temporal transformer alone, behind mlx-lm's model protocol.

`mlx_lm.generate`, `stream_generate`, its caches and its server run on it: `model(tokens,
cache=None)`, `model.layers`, `model.make_cache()`.
Source: PyTorch `moshi/modules/transformer.py`; transformers `modeling_helium.py`.
Shapes: B batch, T steps, H heads, D head width, C model width, V vocabulary.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import create_attention_mask, scaled_dot_product_attention
from mlx_lm.models.cache import KVCache, RotatingKVCache

from ..backend.precision import exact_float32
from ..errors import WeightsError
from ..lm.layers.linear import Linear, linear_plus
from ..lm.layers.transformer import GatedMlp
from ..weights.finite import check_samples
from ..weights.layers import make_weights, quantize_layers
from ..weights.loading import DTYPES, cast, stored_dtype
from ..weights.safetensors import read_now
from .config import HeliumConfig, load_helium_config
from .tokenizer import tokenizer_of
from .weights import packed, read_weights


class HeliumAttention(nn.Module):
    """Causal attention with grouped key and value heads; RoPE interleaved."""

    def __init__(self, config: HeliumConfig) -> None:
        super().__init__()
        t = config.transformer
        self.num_heads, self.kv_heads, self.head_dim = t.num_heads, config.kv_heads, t.head_dim
        self.scale = t.head_dim**-0.5
        self.max_period = t.max_period
        rows = (t.num_heads + 2 * config.kv_heads) * t.head_dim
        self.in_proj = Linear(t.dim, rows)
        self.out_proj = Linear(t.dim, t.dim)

    def rotate(self, x: mx.array, offset: Any) -> mx.array:
        if self.max_period is None:
            return x
        return mx.fast.rope(
            x, self.head_dim, traditional=True, base=self.max_period, scale=1.0, offset=offset
        )

    def __call__(self, residual: mx.array, x: mx.array, mask: Any, cache: Any) -> mx.array:
        """residual + attention(x), both [B, T, C]; new keys and values go into the cache."""
        B, T, C = x.shape
        heads = self.in_proj(x).reshape(B, T, -1, self.head_dim).swapaxes(1, 2)  # [B, ., T, D]
        qk, values = mx.split(heads, [self.num_heads + self.kv_heads], axis=1)
        qk = self.rotate(qk, 0 if cache is None else cache.offset)
        queries, keys = mx.split(qk, [self.num_heads], axis=1)
        if cache is not None:
            keys, values = cache.update_and_fetch(keys, values)
        out = scaled_dot_product_attention(
            queries, keys, values, cache=cache, scale=self.scale, mask=mask
        )
        return linear_plus(residual, out.swapaxes(1, 2).reshape(B, T, C), self.out_proj)


class HeliumBlock(nn.Module):
    """norm, attention, norm, gated MLP; a residual around each."""

    def __init__(self, config: HeliumConfig) -> None:
        super().__init__()
        t = config.transformer
        self.norm1 = nn.RMSNorm(t.dim, t.norm_eps)
        self.self_attn = HeliumAttention(config)
        self.norm2 = nn.RMSNorm(t.dim, t.norm_eps)
        self.gating = GatedMlp(t.dim, t.hidden[0])

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        x = self.self_attn(x, self.norm1(x), mask, cache)
        return self.gating.plus(x, self.norm2(x))


class HeliumTransformer(nn.Module):
    """The blocks, under the name that they have in Kyutai's files."""

    def __init__(self, config: HeliumConfig) -> None:
        super().__init__()
        self.layers = [HeliumBlock(config) for _ in range(config.transformer.num_layers)]


class Helium(nn.Module):
    """Token ids to logits; the caller owns the cache."""

    model_type = "helium"

    def __init__(self, config: HeliumConfig, folder: Path | None = None) -> None:
        """`folder`: where its tokenizer lies."""
        exact_float32()
        super().__init__()
        self.config, self._folder = config, folder
        t = config.transformer
        self.text_emb = nn.Embedding(config.vocab_size, t.dim)
        self.transformer = HeliumTransformer(config)
        self.out_norm = nn.RMSNorm(t.dim, t.norm_eps)
        if not config.tied:
            self.text_linear = Linear(t.dim, config.vocab_size)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        """Ids [B, T] -> logits [B, T, V]; `cache` (of `make_cache`) goes on from earlier calls."""
        x = self.text_emb(tokens)
        caches = cache or [None] * len(self.layers)
        mask = create_attention_mask(x, caches[0], window_size=self.config.transformer.context)
        for layer, own in zip(self.layers, caches, strict=True):
            x = layer(x, mask, own)
        x = self.out_norm(x)
        return self.text_emb.as_linear(x) if self.config.tied else self.text_linear(x)

    def __repr__(self) -> str:
        t = self.config.transformer
        return f"<Helium {t.num_layers} layers x {t.dim}, {self.config.vocab_size} pieces>"

    @cached_property
    def tokenizer(self) -> Any:
        """For mlx-lm: `mlx_lm.generate(helium, helium.tokenizer, prompt="Once upon a time")`.

        Raises WeightsError where none lies beside the weights.
        """
        if self._folder is None:
            raise WeightsError("this Helium was made without a folder that has a tokenizer")
        return tokenizer_of(self._folder, self.config)

    @property
    def layers(self) -> list[HeliumBlock]:
        """The blocks, as mlx-lm's tools look for them."""
        return self.transformer.layers

    def make_cache(self) -> list[Any]:
        """An empty cache a layer: growing, or as long as the window where the config has one."""
        context = self.config.transformer.context
        return [RotatingKVCache(context) if context else KVCache() for _ in self.layers]


def load_helium(
    name_or_folder: str | Path,
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
) -> Helium:
    """Helium and its tokenizer, in Kyutai's MLX layout or transformers', from a folder, or a
    repository such as "kyutai/helium-1-2b".

    dtype: "float32", "float16" or "bfloat16"; None as stored. Quantization is read off the file.
    Raises ConfigError, WeightsError, DownloadError.
    """
    from ..hub import resolve

    if dtype is not None and dtype not in DTYPES:
        raise WeightsError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
    folder = resolve(name_or_folder, revision, offline, files=("weights", "tokenizer"))
    config = load_helium_config(folder)
    raw, path = read_weights(folder)
    tensors, modes = packed(raw, path, config)
    read_now(raw.values())
    check_samples(raw, path)
    del raw
    model = Helium(config, folder)
    quantize_layers(model, modes)
    to = DTYPES[dtype] if dtype else stored_dtype(tensors, path)
    model.load_weights([(name, cast(name, t, to, modes)) for name, t in tensors.items()])
    model.eval()
    del tensors
    make_weights(model)
    return model
