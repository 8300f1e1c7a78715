"""Which source tensors, and which rows of them, make a tensor of Kyutai's MLX layout: a table.

Three layouts come in: Kyutai's MLX one (taken as it is), Kyutai's PyTorch one (norms named alpha,
the depth transformer's slices fused along the rows) and transformers' HeliumForCausalLM (q, k, v
and gate, up apart; its rotary embedding is interleaved too, so rows keep their order).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .recipes import QuantizeError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of a source tensor; `count` of them are all there are."""

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


# Source pattern -> target name; {s} stands for every slice that uses the weight set {p}.
PYTORCH: tuple[tuple[str, str], ...] = (
    (r"(out_norm|transformer\..*)\.alpha", "{0}.weight"),
    (r"(transformer\..*)\.(in|out)_proj_weight", "{0}.{1}_proj.weight"),
    (r"(transformer\..*)\.(in|out)_projs\.0\.weight", "{0}.{1}_proj.weight"),
    (r"emb\.(\d+)\.(.*)", "audio_embs.{0}.{1}"),
    (r"((?:transformer|text_emb|text_linear|extra_heads|condition_provider)\..*)", "{0}"),
)
DEPTH: tuple[tuple[str, str], ...] = (  # named group p: weight set, s: slice, e: slice less one
    (r"depformer_in\.(?P<p>\d+)\.(.*)", "linear_in.{1}"),
    (r"linears\.(?P<s>\d+)\.(.*)", "linear_out.{1}"),
    (r"(?P<t>depformer_text_emb)\.(.*)", "emb.{1}"),
    (r"depformer_emb\.(?P<e>\d+)\.(.*)", "emb.{1}"),
    (r"depformer\.(layers\.\d+\.norm\d)\.alpha", "transformer.{0}.weight"),
    (r"depformer\.(layers\.\d+\.gating)\.(?P<p>\d+)\.(.*)", "transformer.{0}.{2}"),
    (
        r"depformer\.(layers\.\d+\.self_attn)\.(in|out)_projs\.(?P<p>\d+)\.weight",
        "transformer.{0}.{1}_proj.weight",
    ),
)
FUSED = re.compile(r"depformer\.(layers\.\d+\.self_attn)\.(in|out)_proj[._]weight")
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


def layout_of(names: Iterable[str]) -> str:
    """ "mlx", "pytorch" or "transformers". Raises QuantizeError for what isn't a model."""
    names = set(names)
    for mark, layout in (
        ("out_norm.weight", "mlx"),
        ("out_norm.alpha", "pytorch"),
        ("model.embed_tokens.weight", "transformers"),
    ):
        if mark in names:
            return layout
    raise QuantizeError(
        "the source isn't a model this tool knows: its weights have neither Kyutai's names "
        "(out_norm) nor those of Helium in transformers (model.embed_tokens)"
    )


def entries_of(shapes: Mapping[str, Shape], schedule: Sequence[int]) -> list[Entry]:
    """Every target tensor, in a fixed order; each source tensor is used or refused.

    `schedule`: slice -> weight set of the depth transformer, empty without one.
    """
    build: dict[str, Callable[[], list[Entry]]] = {
        "mlx": lambda: [_whole(name, name, shape) for name, shape in shapes.items()],
        "pytorch": lambda: _from_pytorch(shapes, schedule),
        "transformers": lambda: _from_transformers(shapes),
    }
    entries = build[layout_of(shapes)]()
    return sorted(entries, key=lambda entry: _natural(entry.name))


def _from_pytorch(shapes: Mapping[str, Shape], schedule: Sequence[int]) -> list[Entry]:
    entries, unknown = [], []
    for source, shape in shapes.items():
        if match := FUSED.fullmatch(source):
            target = f"transformer.{match[1]}.{match[2]}_proj.weight"
            entries += _cut_by_slice(source, shape, target, schedule)
        elif targets := _pytorch_targets(source, schedule):
            entries += [_whole(target, source, shape) for target in targets]
        elif targets is None:
            unknown.append(source)
    if unknown:
        raise QuantizeError(
            f"the source holds tensors that no part of the model uses: {', '.join(unknown[:3])}"
            + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        )
    return entries


def _pytorch_targets(source: str, schedule: Sequence[int]) -> list[str] | None:
    """Target names of a tensor that is not fused; None if the name is unknown."""
    for pattern, target in DEPTH:
        if match := re.fullmatch(pattern, source):
            tail = target.format(*match.groups())
            return [f"depformer.slices.{s}.{tail}" for s in _slices(match.groupdict(), schedule)]
    for pattern, target in PYTORCH:
        if match := re.fullmatch(pattern, source):
            return [target.format(*match.groups())]
    return None


def _slices(found: Mapping[str, str], schedule: Sequence[int]) -> list[int]:
    if "s" in found:
        return [int(found["s"])]
    if "e" in found:
        return [int(found["e"]) + 1]
    if "t" in found:
        return [0]
    if "p" in found:
        return [s for s, weight_set in enumerate(schedule) if weight_set == int(found["p"])]
    return list(range(len(schedule)))  # norms: one for all slices


def _cut_by_slice(source: str, shape: Shape, target: str, schedule: Sequence[int]) -> list[Entry]:
    """Fused over the weight sets along the rows: slice s takes those of set schedule[s]."""
    num_sets = max(schedule, default=-1) + 1
    if not num_sets or shape[0] % num_sets:
        raise QuantizeError(
            f"{source} has {shape[0]} rows, which {num_sets} sets of depth weights can't share: "
            "do config.json and weights belong together?"
        )
    rows = shape[0] // num_sets
    return [
        Entry(
            f"depformer.slices.{s}.{target}",
            (Rows(source, weight_set * rows, (weight_set + 1) * rows),),
            (rows, *shape[1:]),
        )
        for s, weight_set in enumerate(schedule)
    ]


def _from_transformers(shapes: Mapping[str, Shape]) -> list[Entry]:
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
        raise QuantizeError(f"the source lacks {missing[0]}: is it complete?")
    if unknown := sorted(set(shapes) - used):
        raise QuantizeError(f"the source holds {unknown[0]}, which Helium doesn't have")
    return [_stacked(target, sources, shapes) for target, sources in table.items()]


def _stacked(target: str, sources: Sequence[str], shapes: Mapping[str, Shape]) -> Entry:
    pieces = tuple(Rows(source, 0, shapes[source][0]) for source in sources)
    shape = (sum(piece.stop for piece in pieces), *shapes[sources[0]][1:])
    return Entry(target, pieces, shape)


def _whole(target: str, source: str, shape: Shape) -> Entry:
    """PyTorch's norms are [1, 1, D], here [D]."""
    if source.endswith(".alpha"):
        return Entry(target, (Rows(source, 0, 1),), shape[-1:])
    return Entry(target, (Rows(source, 0, shape[0] if shape else 1),), shape)


def _natural(name: str) -> list[tuple[int, str | int]]:
    """layers.2 before layers.10."""
    return [(0, int(p)) if p.isdigit() else (1, p) for p in name.split(".")]
