"""GPTQ over a whole model, in the order in which it computes: each layer's inputs come through all
layers before it as they will be, quantized.

Embeddings look rows up, each by itself: they are rounded to the nearest, as are formats other than
MLX's affine one.
"""

import shutil
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.weights.formats import dequantize
from moshi_mlx.weights.tensor_names import first_copy

from ..checkpoint.convert import Parts
from ..checkpoint.entries import Entry
from ..checkpoint.plan import Planned
from ..recipe.rounding import nearest
from .gptq import dequantized_arrays, gptq, inverse_factor
from .streamed_lm import Stage, StreamedLm, Tokens

# Layers of a stage that are rounded before the inputs of the next are looked at.
ORDER = tuple(
    f"{block}.{linear}.weight"
    for block, linears in (
        ("self_attn", ("in_proj", "out_proj")),
        ("cross_attention", ("in_proj", "out_proj")),
        ("gating", ("linear_in", "linear_out")),
    )
    for linear in linears
)


class Catcher(nn.Module):
    """A linear layer that adds up its Hessian, x xT of all inputs that it is given."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear, self.hessian = linear, mx.zeros((linear.weight.shape[1],) * 2)

    def __call__(self, x: mx.array) -> mx.array:
        rows = x.reshape(-1, x.shape[-1])
        self.hessian = self.hessian + rows.T @ rows
        return self.linear(x)


def calibrate(
    streamed: StreamedLm,
    plan: Sequence[Planned],
    sequences: Sequence[Tokens],
    keep: Callable[[str, Parts], object],
    progress: Callable[[int], object] = lambda num_weights: None,
) -> None:
    """Round every affine linear layer of the plan; `keep` gets its target module's name and parts.

    Copies of a module that slices share are left out. Raises WeightsError for damaged tensors.
    """
    planned = {p.entry.name: p for p in plan}

    def plainly(entry: Entry, weight: mx.array) -> mx.array:
        """What isn't rounded by GPTQ, as it will be."""
        chosen = planned[entry.name].chosen
        if chosen is None or entry.name in by_gptq:
            return weight
        return dequantize(nearest(entry.module, weight, chosen), chosen)

    layers = linear_layers(streamed, plan)
    by_gptq = {p.entry.name for members in layers.values() for p in members}
    hidden = [mx.zeros(0)] * len(sequences)
    for stage in streamed.stages():
        streamed.load(stage, plainly)
        names = [name for name in layers if name.startswith(stage.prefixes)]
        for group in in_order(names):
            hessians = hessians_of(streamed, stage, group, hidden, sequences)
            for name in group:
                _round(streamed, name, layers[name], hessians.pop(name), keep)
                progress(sum(p.num_weights for p in layers[name]))
        for i, tokens in enumerate(sequences):
            hidden[i] = stage.run(hidden[i], tokens).hidden
            mx.eval(hidden[i])
        streamed.release(stage)


class Staged:
    """Rounded modules in a folder of their own, until the target's file takes them in its order.

    An earlier run's are removed: calibration starts anew.
    """

    def __init__(self, folder: Path, config: LmConfig) -> None:
        self.folder, self.config = folder, config
        self._reading = threading.Lock()
        self.names: set[str] = set()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def keep(self, module: str, parts: Parts) -> None:
        with open(self.folder / f"{module}.npz", "wb") as file:
            np.savez(file, *parts)
        self.names.add(module)

    def ready(self, module: str) -> Callable[[], Parts] | None:
        """How to get a module that was kept (or its first copy), None for others."""
        first = first_copy(module, self.config)
        return partial(self._read, first) if first in self.names else None

    def _read(self, module: str) -> Parts:
        """One at a time: numpy has Python parse a header, which 3.11 can't do on several threads at
        once ("AST constructor recursion depth mismatch")."""
        with self._reading, np.load(self.folder / f"{module}.npz") as stored:
            return tuple(stored[name] for name in stored.files)


def linear_layers(streamed: StreamedLm, plan: Sequence[Planned]) -> dict[str, list[Planned]]:
    """The model's parameters that GPTQ rounds -> the target tensors in each that it rounds."""
    affine = {p.entry.name: p for p in plan if p.chosen is not None and p.chosen.mode == "affine"}
    found = {
        name: [affine[entry.name] for entry in entries if entry.name in affine]
        for name, entries in streamed.members.items()
        if isinstance(streamed.module(name), nn.Linear)
    }
    return {name: members for name, members in found.items() if members}


def in_order(names: Sequence[str]) -> list[list[str]]:
    """The names in groups: those that no layer of ORDER comes before, then one group a kind."""
    groups = [[name for name in names if not name.endswith(ORDER)]]
    groups += [[name for name in names if name.endswith(kind)] for kind in ORDER]
    return [group for group in groups if group]


def hessians_of(
    streamed: StreamedLm,
    stage: Stage,
    names: Sequence[str],
    hidden: Sequence[mx.array],
    sequences: Sequence[Tokens],
) -> dict[str, np.ndarray]:
    """Parameter of the stage -> Hessian [C, C] of its layer: x xT summed over the inputs."""
    catchers = {name: Catcher(streamed.module(name)) for name in names}
    for name, catcher in catchers.items():
        streamed.put(name, catcher)
    for x, tokens in zip(hidden, sequences, strict=True):
        stage.run(x, tokens)
        mx.eval([catcher.hessian for catcher in catchers.values()])  # and nothing that comes after
    for name, catcher in catchers.items():
        streamed.put(name, catcher.linear)
    return {name: np.array(catcher.hessian) for name, catcher in catchers.items()}


def _round(
    streamed: StreamedLm,
    name: str,
    members: Sequence[Planned],
    hessian: np.ndarray,
    keep: Callable[[str, Parts], object],
) -> None:
    """Round a layer's members, give them away, and put what they stand for in their place."""
    factor = inverse_factor(hessian)
    rounded: dict[str, mx.array] = {}
    for planned in members:
        assert planned.chosen is not None
        parts = gptq(streamed.tensor(planned.entry), factor, planned.chosen)
        keep(planned.entry.module, parts)
        rounded[planned.entry.name] = dequantized_arrays(parts, planned.chosen)
    entries = streamed.members[name]
    weight = streamed.read(name, entries, lambda entry, plain: rounded.get(entry.name, plain))
    streamed.module(name).weight = weight
    mx.eval(weight)
