"""From Kyutai's MLX layout to the model's own and back: tables that are read together lie together.

All audio embeddings become one table (plus a row of zeros for "no input"), all input projections
of the depth transformer one matrix; slices that share a set of weights share it in memory.
"""

from collections.abc import Mapping

import mlx.core as mx

from ..config.lm_config import LmConfig
from .formats import dequantize
from .recipes import Format
from .tensor_names import SLICE, expected, first_copy

NamedTensors = dict[str, mx.array]
STACKED_AUDIO, STACKED_INPUTS = "audio_emb.emb", "depth.linear_in"


def layer_name(layer: str, config: LmConfig) -> str | None:
    """A layer's (or bare tensor's) name in the model; None for members of a stack and copies."""
    if layer == "text_emb":
        return "text_emb.emb"
    if layer.startswith("audio_embs."):
        return None
    match = SLICE.fullmatch(layer)
    if match is None or config.depth is None:
        return layer
    s, rest = int(match[1]), match[2]
    if rest == "linear_in":
        return None
    if rest == "linear_out":
        return f"depth.heads.{s}"
    if rest == "norm":
        return f"depth.norms.{s}"
    if rest == "emb":
        return f"depth.embs.{s}.emb"
    if rest.startswith("emb."):
        return f"depth.embs.{s}.{rest.removeprefix('emb.')}"
    schedule = config.depth.schedule
    if schedule.index(schedule[s]) != s:
        return None  # the same weights as an earlier slice
    return f"depth.weight_sets.{schedule[s]}.{rest.removeprefix('transformer.layers.')}"


def stacks(config: LmConfig) -> dict[str, list[str]]:
    """Stacked layer -> its members in Kyutai's layout, in order."""
    found = {}
    if config.n_q:
        found[STACKED_AUDIO] = [f"audio_embs.{k}" for k in range(config.n_q)]
    if config.depth:
        schedule = config.depth.schedule
        firsts = [schedule.index(w) for w in range(config.depth.num_weight_sets)]
        found[STACKED_INPUTS] = [f"depformer.slices.{s}.linear_in" for s in firsts]
    return found


def model_names(config: LmConfig) -> dict[str, str]:
    """Every layer of Kyutai's MLX layout -> the model's own that holds it."""
    stacked = {layer: ours for ours, layers in stacks(config).items() for layer in layers}
    found = {}
    for name in expected(config):
        layer = name.rpartition(".")[0]
        first = first_copy(layer, config)
        found[layer] = stacked.get(first) or str(layer_name(first, config))
    return found


def pack(
    tensors: Mapping[str, mx.array], quantized: Mapping[str, Format], config: LmConfig
) -> tuple[NamedTensors, dict[str, Format]]:
    """Kyutai's MLX layout -> the model's own parameters, and its layers' quantization."""
    packed: NamedTensors = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if (ours := layer_name(layer, config)) is not None:
            packed[f"{ours}.{kind}"] = tensor
    modes = {ours: q for layer, q in quantized.items() if (ours := layer_name(layer, config))}
    for ours, members in stacks(config).items():
        parts, mode = stack(tensors, quantized, members)
        if ours == STACKED_AUDIO:
            parts = {kind: with_zero_row(part) for kind, part in parts.items()}
        packed |= {f"{ours}.{kind}": part for kind, part in parts.items()}
        if mode is not None:
            modes[ours] = mode
    return packed, modes


def stack(
    tensors: Mapping[str, mx.array], quantized: Mapping[str, Format], members: list[str]
) -> tuple[NamedTensors, Format | None]:
    """Members one below the other; dequantized first where they are quantized differently."""
    modes = {quantized.get(layer) for layer in members}
    if len(modes) > 1:
        parts = [plain(tensors, layer, quantized.get(layer)) for layer in members]
        return {"weight": mx.concatenate(parts)}, None
    mode = modes.pop()
    return {
        kind: mx.concatenate([tensors[f"{layer}.{kind}"] for layer in members])
        for kind in kinds(mode)
    }, mode


def plain(tensors: Mapping[str, mx.array], layer: str, chosen: Format | None) -> mx.array:
    """A layer's weight [out, in]; a quantized one in float32."""
    if chosen is None:
        return tensors[f"{layer}.weight"]
    return dequantize([tensors[f"{layer}.{kind}"] for kind in kinds(chosen)], chosen)


def kinds(chosen: Format | None) -> tuple[str, ...]:
    """The tensors of a layer."""
    if chosen is None:
        return ("weight",)
    return ("weight", "scales", "biases") if chosen.mode == "affine" else ("weight", "scales")


def with_zero_row(table: mx.array) -> mx.array:
    """Zeros below a table; zero weight, scale and bias also dequantize to zero."""
    return mx.concatenate([table, mx.zeros((1, table.shape[1]), table.dtype)])


def unpack(packed: Mapping[str, mx.array], config: LmConfig) -> NamedTensors:
    """The inverse: the model's parameters -> every tensor of Kyutai's MLX layout."""
    members = {
        layer: (ours, i)
        for ours, layers in stacks(config).items()
        for i, layer in enumerate(layers)
    }
    found = {}
    for name in expected(config):
        layer, _, own_kind = name.rpartition(".")
        first = first_copy(layer, config)
        ours, i = members.get(first, (layer_name(first, config), None))
        for kind in (own_kind, "scales", "biases"):
            if (tensor := packed.get(f"{ours}.{kind}")) is None:
                continue
            rows = tensor.shape[0] // len(stacks(config)[str(ours)]) if i is not None else 0
            part = tensor if i is None else tensor[i * rows : (i + 1) * rows]
            found[f"{layer}.{kind}"] = part
    return found
