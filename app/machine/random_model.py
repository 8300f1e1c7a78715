"""Models of an exact shape with random weights: what is needed to measure speed without a download.

Quantized layers are filled with random bits, one array after the other, so that nothing is ever
held in 16 bits and the peak is the model itself.
"""

import json
import math
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.presets import PRESETS, raw_preset
from moshi_mlx.config.reading import load_config, parse_config
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.lm.model import Lm
from moshi_mlx.mimi import Mimi, MimiConfig
from moshi_mlx.mimi.tensors import Tensors, evaluated
from moshi_mlx.weights.frame_cost import RECIPES, Precision

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
        return parse_config(read_json(path), str(path))
    raise ConfigError(
        f"{name_or_file!r} is no shape: give one of {', '.join(PRESETS)}, or a config.json"
    )


def read_json(path: Path) -> dict:
    """One JSON object from a file. Raises ConfigError."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read as JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold one JSON object")
    return raw


def precision_of(recipe: str) -> Precision:
    """A recipe by name. Raises MoshiError that lists the known ones."""
    if recipe not in RECIPES:
        raise MoshiError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    return RECIPES[recipe]


def random_lm(
    config: LmConfig,
    recipe: str,
    dtype: str = "bfloat16",
    seed: int = 0,
    pool: dict[tuple, mx.array] | None = None,
) -> Lm:
    """A language model whose every array has the recipe's format; activations take `dtype`.

    bf16 and fp32 as recipes set the dtype of weights and activations. Models made with the same
    `pool` share the arrays that they have in common. Raises MoshiError for a recipe that isn't
    known, or whose groups divide no width.
    """
    precision = precision_of(recipe)
    if not precision.quantized:
        dtype = {"bf16": "bfloat16", "fp32": "float32"}[recipe]
    lm = Lm(config)  # lazy: nothing is computed until it is replaced below
    if precision.quantized:
        _quantize(lm, precision)
    fill = _Fill(FLOATS[dtype], precision, seed)
    pool = {} if pool is None else pool
    for name, array in tree_flatten(lm.parameters()):
        assert isinstance(array, mx.array)
        known = (name, array.shape, recipe, dtype)
        if known not in pool:
            pool[known] = fill(name, array)
            mx.eval(pool[known])
        lm.load_weights([(name, pool[known])], strict=False)
    lm.eval()
    return lm


def _quantize(lm: Lm, precision: Precision) -> None:
    """Layers whose width the groups don't divide stay as they are, as `moshi quantize` does it."""
    quantized = []

    def how(path: str, module: nn.Module) -> bool:
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            return False
        fits = module.weight.shape[-1] % precision.group_size == 0
        quantized.append(fits)
        return fits

    nn.quantize(lm, precision.group_size, precision.bits, mode=precision.mode, class_predicate=how)
    if not any(quantized):
        raise MoshiError(
            f"no layer of this shape can be cut into groups of {precision.group_size}; choose bf16"
        )


class _Fill:
    """Random content for arrays, with numbers that keep a network's activations in range.

    A pattern is drawn once and repeated: its length is a prime, so that no two rows are equal, and
    16 MB, so that no cache holds it.
    """

    PATTERN = 4_194_301

    def __init__(self, dtype: mx.Dtype, precision: Precision, seed: int) -> None:
        self.dtype, self.precision = dtype, precision
        bits, normal = mx.random.split(mx.random.key(seed))
        words = mx.random.randint(-(2**31), 2**31 - 1, (self.PATTERN,), mx.int32, key=bits)
        self.words = words.view(mx.uint32)
        self.normal = mx.random.normal((self.PATTERN,), dtype, key=normal)

    def __call__(self, name: str, array: mx.array) -> mx.array:
        """An array of this shape and kind, not yet evaluated."""
        kind, columns = name.rpartition(".")[2], array.shape[-1]
        if array.dtype == mx.uint32:
            return self.repeat(self.words, array)
        if array.dtype == mx.uint8:  # scales of mxfp4 and its kind: powers of two, 2^-9 here
            return mx.full(array.shape, 118, mx.uint8)
        if kind in ("scales", "biases"):
            half = 2 ** (self.precision.bits - 1)
            step = (3 / (columns * self.precision.group_size)) ** 0.5 / half
            return mx.full(array.shape, step if kind == "scales" else -step * half, self.dtype)
        if array.ndim < 2:
            return mx.ones(array.shape, self.dtype)
        return self.repeat(self.normal, array) * columns**-0.5

    def repeat(self, pattern: mx.array, like: mx.array) -> mx.array:
        if like.size <= pattern.size:
            return pattern[: like.size].reshape(like.shape)
        times = -(-like.size // pattern.size)
        return mx.tile(pattern, times)[: like.size].reshape(like.shape)


class _RandomTensors(Tensors):
    """A Mimi file that has every tensor that is asked for."""

    def __init__(self, dtype: mx.Dtype, seed: int) -> None:
        super().__init__({}, "random weights", dtype)
        self._fill = _Fill(dtype, RECIPES["fp32"], seed)

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
