"""Models of an exact shape with random weights: what is needed to measure speed without a download.

Quantized layers are filled with random bits, one array after the other, so that nothing is ever
held in 16 bits and the peak is the model itself.
"""

import gc
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.presets import PRESETS, raw_preset
from moshi_mlx.config.reading import load_config, parse_config
from moshi_mlx.errors import MoshiError, UsageError
from moshi_mlx.lm.layers.linear import laid_out
from moshi_mlx.lm.model import Lm
from moshi_mlx.mimi import Mimi, MimiConfig
from moshi_mlx.mimi.loading import is_kyutai
from moshi_mlx.mimi.tensors import Tensors, evaluated
from moshi_mlx.weights.layers import dense_layers, quantize_layers
from moshi_mlx.weights.packing import layer_name, stacks
from moshi_mlx.weights.recipes import RECIPES, Format, Recipe, formats

# Of Kyutai's Mimi in float32: all but the codebooks; one codebook, its scores and squares beside.
KYUTAI_MIMI_BYTES, KYUTAI_BOOK_BYTES = 317_320_000, 2048 * (2 * 256 + 1) * 4
FLOATS = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def shape_config(name_or_file: str) -> LmConfig:
    """A preset's name, a `config.json` or a folder with one -> the shape. Raises ConfigError."""
    if name_or_file in PRESETS:
        return parse_config(raw_preset(name_or_file), name_or_file)
    path = Path(name_or_file).expanduser()
    if path.is_dir():
        return load_config(path)
    if path.is_file() and path.name == "config.json":
        return load_config(path.parent)
    if path.is_file():
        return parse_config(read_json_object(path), str(path))
    raise UsageError(
        f"{name_or_file!r} is no shape: give one of {', '.join(PRESETS)}, or a config.json"
    )


def activations_on(gpu: bool) -> str:
    """The dtype that a model computes in: bf16 on a GPU, as published; a CPU would emulate it."""
    return "bfloat16" if gpu else "float32"


def recipe_of(name: str) -> Recipe:
    """A recipe by name. Raises MoshiError that lists the known ones."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def random_lm(
    config: LmConfig,
    recipe: str,
    dtype: str = "bfloat16",
    seed: int = 0,
    pool: dict[tuple, mx.array] | None = None,
    kv_bits: int = 16,
) -> Lm:
    """A language model whose every array has the recipe's format; activations take `dtype`.

    bf16, fp16 and fp32 as recipes set the dtype of weights and activations. Models made with the
    same `pool` share the arrays that they have in common. Raises MoshiError for a recipe that
    isn't known, or whose groups divide no width. kv_bits: as in `load_lm`.
    """
    lm, dtype, layers = _empty_lm(config, recipe, dtype, kv_bits)
    fill = _Fill(FLOATS[dtype], layers, seed)
    pool = {} if pool is None else pool
    dense = dense_layers(lm)
    for name, array in tree_flatten(lm.parameters()):
        assert isinstance(array, mx.array)
        known = (name, array.shape, recipe, dtype)
        if known not in pool:
            filled = fill(name, array)
            pool[known] = laid_out(filled) if name in dense else filled
            mx.eval(pool[known])
        lm.load_weights([(name, pool[known])], strict=False)
    lm.eval()
    return lm


def _empty_lm(
    config: LmConfig, recipe: str, dtype: str, kv_bits: int
) -> tuple[Lm, str, dict[str, Format]]:
    """A model of which nothing is computed, its dtype, and its quantized layers."""
    chosen = recipe_of(recipe)
    lm, layers = Lm(config, kv_bits), _layer_formats(config, chosen)
    if chosen.quantizes:
        _quantize(lm, layers, recipe)
    else:
        dtype = dtype_of(config, chosen)
    return lm, dtype, layers


def dtype_of(config: LmConfig, recipe: Recipe) -> str:
    """Of all weights and activations, for a recipe that doesn't quantize."""
    return formats(config, recipe)["out_norm.weight"].mode


def lm_bytes(config: LmConfig, recipe: str, dtype: str) -> int:
    """What the arrays of `random_lm` hold together; nothing is allocated. Raises as it does."""
    lm, dtype, _ = _empty_lm(config, recipe, dtype, 16)
    sizes = [
        array.size * FLOATS[dtype].size if floating(array) else array.nbytes
        for _, array in tree_flatten(lm.parameters())
        if isinstance(array, mx.array)
    ]
    return sum(sizes)


def floating(array: mx.array) -> bool:
    return mx.issubdtype(array.dtype, mx.floating)


@cache
def mimi_bytes(config: MimiConfig, num_codebooks: int) -> int:
    """What the arrays of a Mimi hold together: Kyutai's as measured, others are made up for it."""
    if is_kyutai(config):
        return KYUTAI_MIMI_BYTES + num_codebooks * KYUTAI_BOOK_BYTES
    gc.collect()  # what is let go of meanwhile would be missing
    before = mx.get_active_memory()
    mimi = random_mimi(config, num_codebooks)
    found = mx.get_active_memory() - before
    del mimi
    return found


def _layer_formats(config: LmConfig, recipe: Recipe) -> dict[str, Format]:
    """The model's own name of each layer that the recipe quantizes -> its format."""
    stacked = {members[0]: ours for ours, members in stacks(config).items()}
    found = {}
    for name, chosen in formats(config, recipe).items():
        layer = name.rpartition(".")[0]
        ours = stacked.get(layer) or layer_name(layer, config)
        if ours is not None and chosen.quantized:
            found[ours] = chosen
    return found


def _quantize(lm: Lm, layers: Mapping[str, Format], recipe: str) -> None:
    """Layers whose width the groups don't divide stay as they are, as `moshi quantize` does it."""
    if not layers:
        raise MoshiError(
            f"no layer of this shape can be cut into the groups of {recipe}; choose bf16"
        )
    quantize_layers(lm, layers)


PATTERN = 4_194_301


class _Fill:
    """Random content for arrays, with numbers that keep a network's activations in range.

    A pattern is drawn once and repeated: its length is a prime, so that no two rows are equal, and
    16 MB, so that no cache holds it.
    """

    def __init__(self, dtype: mx.Dtype, layers: Mapping[str, Format], seed: int) -> None:
        self.dtype, self.layers = dtype, layers
        bits, normal = mx.random.split(mx.random.key(seed))
        words = mx.random.randint(-(2**31), 2**31 - 1, (PATTERN,), mx.int32, key=bits)
        self.words = words.view(mx.uint32)
        self.normal = mx.random.normal((PATTERN,), dtype, key=normal)

    def __call__(self, name: str, array: mx.array) -> mx.array:
        """An array of this shape and kind, not yet evaluated."""
        (layer, _, kind), columns = name.rpartition("."), array.shape[-1]
        if array.dtype == mx.uint32:
            return self.repeat(self.words, array)
        if array.dtype == mx.uint8:  # scales of mxfp4 and its kind: powers of two, 2^-9 here
            return mx.full(array.shape, 118, mx.uint8)
        if kind in ("scales", "biases") and layer in self.layers:
            half = 2 ** (self.layers[layer].bits - 1)
            step = (3 / (columns * self.layers[layer].group_size)) ** 0.5 / half
            return mx.full(array.shape, step if kind == "scales" else -step * half, self.dtype)
        if array.ndim < 2:
            return mx.ones(array.shape, self.dtype)
        return self.repeat(self.normal, array) * columns**-0.5

    def repeat(self, pattern: mx.array, like: mx.array) -> mx.array:
        if like.size <= pattern.size:
            return (pattern[: like.size] + 0).reshape(like.shape)  # a view would keep all of it
        times = -(-like.size // pattern.size)
        return mx.tile(pattern, times)[: like.size].reshape(like.shape)


class _RandomTensors(Tensors):
    """A Mimi file that has every tensor that is asked for."""

    def __init__(self, dtype: mx.Dtype, seed: int) -> None:
        super().__init__({}, "random weights", dtype)
        self._fill = _Fill(dtype, {}, seed)

    def take(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        to = dtype or self.dtype
        if name.endswith("cluster_usage"):
            return evaluated(mx.ones(shape, to))
        size = math.prod(shape)
        flat = self._fill.repeat(self._fill.normal, mx.zeros((size,)))
        fan_in = max(1, size // shape[0])
        return evaluated((flat.reshape(shape) * fan_in**-0.5).astype(to))

    def skip(self, name: str, *shape: int) -> None:
        """There is nothing to check."""


def random_mimi(
    config: MimiConfig,
    num_codebooks: int = 8,
    dtype: str = "float32",
    seed: int = 0,
    compiled: bool | None = None,
) -> Mimi:
    """A codec of this shape in MLX; `compiled` as in Mimi."""
    return Mimi(config, _RandomTensors(FLOATS[dtype], seed), num_codebooks, compiled)
