"""The tensors of a language model in Kyutai's MLX layout, and where PyTorch's layout has each.

`expected` lists every tensor (name -> shape) from the config alone; `source_of` is the table from
MLX names to PyTorch names. Both are plain data: `moshi quantize` converts files by them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..config.lm_config import LmConfig, TransformerConfig

Shape = tuple[int, ...]
SLICE = re.compile(r"depformer\.slices\.(\d+)\.(.+)")


def expected(config: LmConfig) -> dict[str, Shape]:
    """Every tensor of an unquantized file in Kyutai's MLX layout, with its shape [out, in]."""
    return dict(_all(config))


def _all(config: LmConfig) -> Iterator[tuple[str, Shape]]:
    t, card = config.transformer, config.card
    yield from _embedding("text_emb", config.text_card + 1, t.dim, None, config.demux_second_stream)
    for k in range(config.n_q):
        yield f"audio_embs.{k}.weight", (card + 1, t.dim)
    yield from _transformer("transformer", t, t.hidden[0])
    yield "out_norm.weight", (t.dim,)
    yield "text_linear.weight", (config.text_card_out, t.dim)
    for h in range(config.extra_heads):
        yield f"extra_heads.{h}.weight", (config.extra_heads_dim, t.dim)
    for name, entry in config.conditioners.items():
        prefix = f"condition_provider.conditioners.{name}"
        if entry.kind == "lut":
            yield f"{prefix}.embed.weight", (entry.num_bins + 1, entry.dim)
        yield f"{prefix}.output_proj.weight", (t.dim, entry.dim)
        yield f"{prefix}.learnt_padding", (1, 1, t.dim)
    if config.depth:
        for s in range(config.dep_q):
            yield from _slice(config, s)


def dropped(config: LmConfig) -> set[str]:
    """Every name, in either layout, that a tensor of a slice may have which isn't built."""
    if config.depth is None or not config.depth.dropped:
        return set()
    depth, count = config.depth, config.dep_q + config.depth.dropped
    hidden = depth.transformer.hidden + depth.transformer.hidden[-1:] * depth.dropped
    inner = replace(depth.transformer, hidden=hidden)
    whole = replace(depth, transformer=inner, schedule=tuple(range(count)), dropped=0)
    full = replace(config, depth=whole)
    names = {n for s in range(config.dep_q, count) for n, _ in _slice(full, s)}
    sources = {source for n in names for source, parts, _ in source_of(n, full).names if parts == 1}
    return names | sources


def _slice(config: LmConfig, s: int) -> Iterator[tuple[str, Shape]]:
    depth = config.depth
    assert depth is not None
    prefix, d = f"depformer.slices.{s}", depth.transformer
    num = (config.text_card if s == 0 else config.card) + 1
    demux = config.demux_second_stream and s == 0
    yield from _embedding(f"{prefix}.emb", num, d.dim, depth.low_rank, demux)
    yield f"{prefix}.linear_in.weight", (d.dim, config.transformer.dim)
    yield f"{prefix}.linear_out.weight", (config.card, d.dim)
    if depth.head_norm:
        yield f"{prefix}.norm.weight", (d.dim,)
        yield f"{prefix}.norm.bias", (d.dim,)
    yield from _transformer(f"{prefix}.transformer", d, d.hidden[depth.schedule[s]])


def _embedding(
    prefix: str, num: int, dim: int, low_rank: int | None, demux: bool
) -> Iterator[tuple[str, Shape]]:
    width = low_rank or dim
    yield f"{prefix}.weight", (num, width)
    parts = (["low_rank"] if low_rank else []) + (["out1", "out2"] if demux else [])
    for part in parts:
        yield f"{prefix}.{part}.weight", (dim, width)


def _transformer(prefix: str, t: TransformerConfig, hidden: int) -> Iterator[tuple[str, Shape]]:
    for layer in range(t.num_layers):
        at = f"{prefix}.layers.{layer}"
        yield f"{at}.norm1.weight", (t.dim,)
        yield f"{at}.norm2.weight", (t.dim,)
        attentions = ["self_attn"]
        if t.cross_attention:
            attentions.append("cross_attention")
            yield f"{at}.norm_cross.weight", (t.dim,)
            yield f"{at}.norm_cross.bias", (t.dim,)
        for attention in attentions:
            rows = t.qkv_dim if attention == "self_attn" else 3 * t.dim
            yield f"{at}.{attention}.in_proj.weight", (rows, t.dim)
            yield f"{at}.{attention}.out_proj.weight", (t.dim, t.dim)
        yield f"{at}.gating.linear_in.weight", (2 * hidden, t.dim)
        yield f"{at}.gating.linear_out.weight", (t.dim, hidden)


@dataclass(frozen=True)
class TensorOrigin:
    """Where a tensor lies in a PyTorch file: the first of `names` that is there (with how many
    equal parts along the first axis it has, and which part is meant); [1, 1, D] is flattened."""

    names: tuple[tuple[str, int, int], ...]  # (name, parts, part)


# (pattern of the MLX name, PyTorch names with {groups}); {w} is the slice's set of weights and
# a "/" marks a tensor that holds all sets along its first axis.
SOURCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"audio_embs\.(?P<k>\d+)\.weight", ("emb.{k}.weight",)),
    (r"out_norm\.weight", ("out_norm.alpha",)),
    (
        r"(?P<at>transformer\.layers\.\d+\.norm[12])\.weight",
        ("{at}.alpha",),
    ),
    (
        r"(?P<at>transformer\.layers\.\d+\.\w+)\.(?P<p>in|out)_proj\.weight",
        ("{at}.{p}_proj_weight", "{at}.{p}_proj.weight", "{at}.{p}_projs.0.weight"),
    ),
    (r"depformer\.slices\.(?P<s>\d+)\.linear_in\.weight", ("depformer_in.{w}.weight",)),
    (r"depformer\.slices\.(?P<s>\d+)\.linear_out\.weight", ("linears.{s}.weight",)),
    (r"depformer\.slices\.(?P<s>\d+)\.norm\.(?P<rest>.+)", ("depformer_norms.{s}.{rest}",)),
    (r"depformer\.slices\.0\.emb\.(?P<rest>.+)", ("depformer_text_emb.{rest}",)),
    (r"depformer\.slices\.(?P<s>\d+)\.emb\.(?P<rest>.+)", ("depformer_emb.{before}.{rest}",)),
    (
        r"depformer\.slices\.(?P<s>\d+)\.transformer\.(?P<at>layers\.\d+\.norm[12])\.weight",
        ("depformer.{at}.alpha",),
    ),
    (
        r"depformer\.slices\.(?P<s>\d+)\.transformer\.(?P<at>layers\.\d+\.self_attn)"
        r"\.(?P<p>in|out)_proj\.weight",
        (
            "depformer.{at}.{p}_proj_weight/",
            "depformer.{at}.{p}_proj.weight/",
            "depformer.{at}.{p}_projs.{w}.weight",
        ),
    ),
    (
        r"depformer\.slices\.(?P<s>\d+)\.transformer\.(?P<at>layers\.\d+\.gating)\.(?P<rest>.+)",
        ("depformer.{at}.{w}.{rest}",),
    ),
)


def source_of(name: str, config: LmConfig) -> TensorOrigin:
    """Where PyTorch's layout has the MLX tensor `name`; the same name by default."""
    for pattern, targets in SOURCES:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        words = match.groupdict()
        w, sets = 0, 1
        if "s" in words and config.depth:
            s = int(words["s"])
            w, sets = config.depth.schedule[s], config.depth.file_weight_sets
            words |= {"w": str(w), "before": str(s - 1)}
        return TensorOrigin(
            tuple(
                (target.format(**words).rstrip("/"), sets, w)
                if target.endswith("/")
                else (target.format(**words), 1, 0)
                for target in targets
            )
        )
    return TensorOrigin(((name, 1, 0),))


def is_pytorch_layout(names: set[str]) -> bool:
    """PyTorch's files call the last norm `out_norm.alpha`, MLX's `out_norm.weight`."""
    return "out_norm.alpha" in names


def first_copy(layer: str, config: LmConfig) -> str:
    """The first slice that holds the same weights (a schedule writes them once a slice)."""
    match = SLICE.fullmatch(layer)
    if match is None or config.depth is None or match[2].startswith(("emb", "linear_out", "norm")):
        return layer
    schedule = config.depth.schedule
    return f"depformer.slices.{schedule.index(schedule[int(match[1])])}.{match[2]}"
