"""Which rows of which source tensors make each tensor of Kyutai's MLX layout.

Three layouts come in: Kyutai's MLX and PyTorch ones (by the table in moshi_mlx/names.py) and
transformers' HeliumForCausalLM (q, k, v and gate, up apart; its rotary embedding is interleaved
as Kyutai's is, so the rows keep their order).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moshi_mlx.config import LmConfig
from moshi_mlx.errors import WeightsError
from moshi_mlx.names import Shape, expected, is_pytorch_layout, source_of
from moshi_mlx.weights import check_names

from .recipes import QuantizeError


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of a source tensor."""

    source: str
    start: int
    stop: int


@dataclass(frozen=True)
class Entry:
    """A target tensor: its pieces stacked along the rows, in this shape."""

    name: str
    pieces: tuple[Rows, ...]
    shape: Shape

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]


# transformers' Helium: target -> its pieces, in the order of their rows
HELIUM_ENDS = {
    "text_emb.weight": "model.embed_tokens.weight",
    "out_norm.weight": "model.norm.weight",
    "text_linear.weight": "lm_head.weight",
}
HELIUM_LAYER: dict[str, tuple[str, ...]] = {
    "norm1.weight": ("input_layernorm.weight",),
    "self_attn.in_proj.weight": tuple(f"self_attn.{x}_proj.weight" for x in "qkv"),
    "self_attn.out_proj.weight": ("self_attn.o_proj.weight",),
    "norm2.weight": ("post_attention_layernorm.weight",),
    "gating.linear_in.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "gating.linear_out.weight": ("mlp.down_proj.weight",),
}


def is_transformers_layout(names: Iterable[str]) -> bool:
    return "model.embed_tokens.weight" in set(names)


def check_is_model(names: Iterable[str], where: str) -> None:
    """Raises QuantizeError for weights of something else (Mimi, say)."""
    if not {"out_norm.weight", "out_norm.alpha", "model.embed_tokens.weight"} & set(names):
        raise QuantizeError(
            f"{where} isn't a model this tool knows: its weights have neither Kyutai's names "
            "(out_norm) nor those of Helium in transformers (model.embed_tokens)"
        )


def entries_of(shapes: Mapping[str, Shape], config: LmConfig, path: str) -> list[Entry]:
    """Every target tensor, in a fixed order; each source tensor is used or refused.

    Raises WeightsError for missing, unknown and misshapen tensors.
    """
    if is_transformers_layout(shapes):
        entries = _from_transformers(shapes, path)
    else:
        wanted = expected(config)
        entries = [_entry(name, shape, shapes, config, path) for name, shape in wanted.items()]
        used = {piece.source for entry in entries for piece in entry.pieces}
        check_names(set(shapes), used, path)
    return sorted(entries, key=lambda entry: _natural(entry.name))


def _entry(
    name: str, shape: Shape, shapes: Mapping[str, Shape], config: LmConfig, path: str
) -> Entry:
    """`name` from the first of its sources that is there."""
    sources = ((name, 1, 0),)
    if is_pytorch_layout(set(shapes)):
        sources = source_of(name, config).names
    for source, parts, part in sources:
        if source not in shapes:
            continue
        fused = (shape[0] * parts, *shape[1:])
        if shapes[source] == (1, 1, *shape):
            return Entry(name, (Rows(source, 0, 1),), shape)
        if shapes[source] != fused:
            raise WeightsError(
                f"{path}: {source} has shape {list(shapes[source])}, the config asks for "
                f"{list(fused)}"
            )
        return Entry(name, (Rows(source, part * shape[0], (part + 1) * shape[0]),), shape)
    raise WeightsError(f"{path} lacks {sources[0][0]}: it does not fit its config.json")


def _from_transformers(shapes: Mapping[str, Shape], path: str) -> list[Entry]:
    table: dict[str, tuple[str, ...]] = {
        target: (source,) for target, source in HELIUM_ENDS.items()
    }
    if "lm_head.weight" not in shapes:  # tied to the embedding
        table["text_linear.weight"] = table["text_emb.weight"]
    layers = {int(m[1]) for name in shapes if (m := re.match(r"model\.layers\.(\d+)\.", name))}
    for layer in layers:
        for target, sources in HELIUM_LAYER.items():
            table[f"transformer.layers.{layer}.{target}"] = tuple(
                f"model.layers.{layer}.{source}" for source in sources
            )
    used = {source for sources in table.values() for source in sources}
    if missing := sorted(used - set(shapes)):
        raise WeightsError(f"{path} lacks {missing[0]}: fetch it again")
    check_names(set(shapes), used, path)
    return [_stacked(target, sources, shapes) for target, sources in table.items()]


def _stacked(target: str, sources: Sequence[str], shapes: Mapping[str, Shape]) -> Entry:
    pieces = tuple(Rows(source, 0, shapes[source][0]) for source in sources)
    shape = (sum(piece.stop for piece in pieces), *shapes[sources[0]][1:])
    return Entry(target, pieces, shape)


def _natural(name: str) -> list[tuple[int, str | int]]:
    """layers.2 before layers.10."""
    return [(0, int(p)) if p.isdigit() else (1, p) for p in name.split(".")]
