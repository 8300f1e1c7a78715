"""The language model walked stage by stage over whole sequences, each stage's weights read from the
source when it is their turn and let go after it: memory holds hidden states and one layer.

A stage may run several states of one sequence as a batch. Shapes: B batch, T steps, K streams,
V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.lm.buffers import Sources
from moshi_mlx.lm.layers.linear import Linear
from moshi_mlx.lm.layers.transformer import Block
from moshi_mlx.lm.model import Lm, delay
from moshi_mlx.weights.packing import STACKED_AUDIO, layer_name, stacks, with_zero_row

from ..checkpoint.entries import Entry
from ..checkpoint.source import Source
from ..recipe.rounding import to_mlx

READ_BYTES = 32_000_000
Replace = Callable[[Entry, mx.array], mx.array]  # a source tensor (bf16) -> what takes its place


@dataclass
class Tokens:
    """One sequence, delayed: `inputs` and `targets` int32 [1, 1 + n_q, T]."""

    inputs: mx.array
    targets: mx.array

    @classmethod
    def of(cls, codes: np.ndarray, config: LmConfig) -> "Tokens":
        delayed = delay(codes[None], config)
        return cls(mx.array(delayed[:, :, :-1]), mx.array(delayed[:, :, 1:]))


@dataclass(frozen=True)
class Result:
    """Of one stage: the next hidden state, and where it ends in tokens logits [B, T, K, V] of K
    streams from `first` on (0 is text)."""

    hidden: mx.array
    logits: mx.array | None = None
    first: int = 0


@dataclass(frozen=True)
class Stage:
    """`prefixes`: of the layers (the model's own names) it needs; `run`: hidden -> Result."""

    name: str
    prefixes: tuple[str, ...]
    run: Callable[[mx.array, Tokens], Result] = field(repr=False)


class StreamedLm:
    """An Lm whose tensors are empty until `load` fills those of a stage.

    Everything is computed in float32. Raises WeightsError for damaged source tensors.
    """

    def __init__(self, config: LmConfig, source: Source, entries: Sequence[Entry]) -> None:
        self.config, self.source = config, source
        self.lm = Lm(config)  # lazy: nothing is drawn
        self.lm.eval()
        self.members = members_of(entries, config)
        self.given = Sources()

    def stages(self) -> Iterator[Stage]:
        """From tokens to all logits, in order."""
        lm = self.lm
        yield Stage("embeddings", ("text_emb.", "audio_emb.", "condition_provider."), self._embed)
        for i, layer in enumerate(lm.transformer.layers):
            yield Stage(f"layer {i}", (f"transformer.layers.{i}.",), partial(self._layer, layer))
        yield Stage("text head", ("out_norm.", "text_linear.", "extra_heads."), self._text_head)
        if self.config.depth is None:
            return
        yield Stage("depth inputs", ("depth.linear_in.", "depth.embs."), self._depth_inputs)
        for i in range(self.config.depth.transformer.num_layers):
            sets = range(self.config.depth.num_weight_sets)
            prefixes = tuple(f"depth.weight_sets.{w}.{i}." for w in sets)
            yield Stage(f"depth layer {i}", prefixes, partial(self._depth_layer, i))
        yield Stage("depth heads", ("depth.heads.",), self._depth_heads)

    def _embed(self, x: mx.array, tokens: Tokens) -> Result:
        self.given = self.lm.sources(None)
        return Result(self.lm.embed(tokens.inputs, self.given))

    def _layer(self, layer: Block, x: mx.array, tokens: Tokens) -> Result:
        return Result(layer(x, self.given.cross))

    def _text_head(self, x: mx.array, tokens: Tokens) -> Result:
        out = self.lm.out_norm(x)
        for head in self.lm.extra_heads:  # nobody needs their output, calibration needs their input
            head(out)
        return Result(out, self.lm.text_linear(out)[:, :, None])

    def _depth_inputs(self, out: mx.array, tokens: Tokens) -> Result:
        own = tokens.targets[:, 1 : 1 + self.config.dep_q]
        return Result(self.lm.depth.rows(out, tokens.targets[:, 0], own))

    def _depth_layer(self, i: int, rows: mx.array, tokens: Tokens) -> Result:
        return Result(self.lm.depth.layer(i, rows))

    def _depth_heads(self, rows: mx.array, tokens: Tokens) -> Result:
        logits, steps = self.lm.depth.logits(rows), tokens.inputs.shape[2]
        return Result(rows, logits.reshape(-1, steps, *logits.shape[1:]), first=1)

    def module(self, parameter: str) -> Any:
        """The layer that holds a parameter."""
        found: Any = self.lm
        for word in parameter.split(".")[:-1]:
            found = found[int(word) if isinstance(found, list) else word]
        return found

    def put(self, parameter: str, module: nn.Module) -> None:
        """Another layer in the place of the one that holds a parameter."""
        parent, _, key = parameter.rpartition(".")[0].rpartition(".")
        holder = self.module(f"{parent}.{key}") if parent else self.lm
        holder[int(key) if isinstance(holder, list) else key] = module

    def load(self, stage: Stage, replace: Replace | None = None) -> None:
        """Fill the stage's layers; `replace` may change matrices on the way."""
        found = [
            (name, self.read(name, entries, replace))
            for name, entries in self.members.items()
            if name.startswith(stage.prefixes)
        ]
        self.lm.load_weights(found, strict=False)
        mx.eval([tensor for _, tensor in found])

    def read(self, name: str, entries: Sequence[Entry], replace: Replace | None) -> mx.array:
        """One parameter of the model, float32."""
        parts = []
        for entry in entries:
            tensor = self.tensor(entry)
            if replace is not None and tensor.ndim == 2:
                tensor = replace(entry, tensor)
            parts.append(tensor.astype(mx.float32))
        whole = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        return with_zero_row(whole) if name == f"{STACKED_AUDIO}.weight" else whole

    def tensor(self, entry: Entry) -> mx.array:
        """A target tensor before any rounding, bf16."""
        blocks = []
        for tensor, rows in self.source.row_blocks(entry, READ_BYTES):
            tensor.check_finite(rows)
            blocks.append(to_mlx(rows, tensor.dtype))
        return mx.concatenate(blocks) if len(blocks) > 1 else blocks[0]

    def release(self, stage: Stage) -> None:
        """Let the stage's weights go, and the views of them that linear layers keep."""
        nothing = mx.zeros(0)
        gone = [(name, nothing) for name in self.members if name.startswith(stage.prefixes)]
        self.lm.load_weights(gone, strict=False)
        for module in self.lm.modules():
            if isinstance(module, Linear):
                module.forget_view()


def members_of(entries: Sequence[Entry], config: LmConfig) -> dict[str, list[Entry]]:
    """The model's parameter -> the target tensors that it is made of (copies are left out)."""
    by_name = {entry.name: entry for entry in entries}
    found = {}
    for entry in entries:
        layer, _, kind = entry.name.rpartition(".")
        if (ours := layer_name(layer, config)) is not None:
            found[f"{ours}.{kind}"] = [entry]
    for ours, members in stacks(config).items():
        found[f"{ours}.weight"] = [by_name[f"{layer}.weight"] for layer in members]
    return found
