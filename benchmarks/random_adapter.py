"""A LoRA adapter of random numbers, as moshi-finetune writes one, for a model of any shape."""

from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.weights.lora import PAIR
from moshi_mlx.weights.recipes import quantizable
from moshi_mlx.weights.tensor_names import expected, source_of


def random_adapter(config: LmConfig, rank: int, path: Path, scale: float = 0.01) -> Path:
    """A pair for every linear layer; returns `path`."""
    rng, tensors = np.random.default_rng(0), {}
    shapes = expected(config)
    for name in quantizable(shapes):
        if "emb" in name:
            continue
        source = source_of(name, config).names[-1][0].removesuffix(".weight")
        out, inputs = shapes[name]
        for end, shape in zip(PAIR, ((rank, inputs), (out, rank)), strict=True):
            tensors[source + end] = mx.array(rng.normal(0, scale, shape).astype(np.float32))
    mx.save_safetensors(str(path), tensors)
    return path
