"""Helium's files: Kyutai's MLX names or transformers', whole or in shards, quantized or not.

The model keeps Kyutai's names; transformers' separate projections are laid one below the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..config.model_files import part_path, weight_paths
from ..config.reading import read_config
from ..errors import WeightsError
from ..weights.packing import NamedTensors, stack
from ..weights.recipes import Format
from ..weights.safetensors import check_tensors, read_all
from .config import HeliumConfig

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def untied(path: str) -> WeightsError:
    """What a file with a head of its own is told where config.json says that it has none."""
    return WeightsError(
        f"{path}: {HEAD} differs from {EMBEDDING}, but config.json says that they are one "
        "(tie_word_embeddings); fetch both again"
    )


@dataclass(frozen=True)
class Weight:
    """One weight: its name here and in Kyutai's files, its parts (name, rows) in transformers'."""

    name: str
    parts: tuple[tuple[str, int], ...]
    width: int | None  # None: a norm, whose weight is a vector

    def shapes(self, transformers: bool) -> dict[str, tuple[int, ...]]:
        rows = self.parts if transformers else ((self.name, sum(n for _, n in self.parts)),)
        tail = () if self.width is None else (self.width,)
        return {f"{name}.weight": (n, *tail) for name, n in rows}


def layers_of(config: HeliumConfig) -> Iterator[Weight]:
    """Every weight of a Helium, in both layouts."""
    t = config.transformer
    kv, hidden = config.kv_heads * t.head_dim, t.hidden[0]
    yield Weight("text_emb", (("model.embed_tokens", config.vocab_size),), t.dim)
    yield Weight("out_norm", (("model.norm", t.dim),), None)
    if not config.tied:
        yield Weight("text_linear", (("lm_head", config.vocab_size),), t.dim)
    for i in range(t.num_layers):
        ours, theirs = f"transformer.layers.{i}", f"model.layers.{i}"
        attention = f"{theirs}.self_attn"
        qkv = (
            (f"{attention}.q_proj", t.dim),
            (f"{attention}.k_proj", kv),
            (f"{attention}.v_proj", kv),
        )
        gate_up = ((f"{theirs}.mlp.gate_proj", hidden), (f"{theirs}.mlp.up_proj", hidden))
        yield Weight(f"{ours}.norm1", ((f"{theirs}.input_layernorm", t.dim),), None)
        yield Weight(f"{ours}.self_attn.in_proj", qkv, t.dim)
        yield Weight(f"{ours}.self_attn.out_proj", ((f"{attention}.o_proj", t.dim),), t.dim)
        yield Weight(f"{ours}.norm2", ((f"{theirs}.post_attention_layernorm", t.dim),), None)
        yield Weight(f"{ours}.gating.linear_in", gate_up, t.dim)
        yield Weight(f"{ours}.gating.linear_out", ((f"{theirs}.mlp.down_proj", t.dim),), hidden)


def is_transformers_layout(names: set[str]) -> bool:
    return "model.norm.weight" in names


def read_weights(folder: Path) -> tuple[NamedTensors, str]:
    """All tensors of a folder's weights, read lazily, and the file to name in errors."""
    raw = read_config(folder) if (folder / "config.json").exists() else {}
    return read_all(weight_paths(folder, raw)), str(part_path(folder, raw, "weights"))


def packed(
    tensors: NamedTensors, path: str, config: HeliumConfig
) -> tuple[NamedTensors, dict[str, Format]]:
    """Tensors of either layout -> the model's parameters and its layers' quantization.

    Raises WeightsError for a missing, unknown or misshapen tensor. Parts that a file quantizes
    differently (mlx-lm's mixed recipes) are dequantized where they meet.
    """
    transformers = is_transformers_layout(set(tensors))
    if config.tied and (head := tensors.get(HEAD)) is not None:
        if not mx.array_equal(head, tensors.get(EMBEDDING, mx.zeros(0))):
            raise untied(path)
        tensors = {name: tensor for name, tensor in tensors.items() if name != HEAD}
    layers = list(layers_of(config))
    shapes = {name: s for layer in layers for name, s in layer.shapes(transformers).items()}
    quantized = check_tensors(tensors, shapes, path)
    found: NamedTensors = {}
    modes: dict[str, Format] = {}
    for layer in layers:
        members = [name for name, _ in layer.parts] if transformers else [layer.name]
        parts, mode = stack(tensors, quantized, members)
        found |= {f"{layer.name}.{kind}": part for kind, part in parts.items()}
        if mode is not None:
            modes[layer.name] = mode
    return found, modes
