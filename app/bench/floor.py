"""The floor of a model as it lies in memory: bytes that a frame reads, and how fast they can come.

Bytes are counted on the loaded arrays, so they are right for any mix of bits; the arithmetic on a
config alone is `moshi_mlx.weights.frame_cost`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moshi_mlx.errors import UsageError
from moshi_mlx.lm.layers.embedding import StackedEmbedding, TokenEmbedding
from moshi_mlx.lm.layers.kv_ring import bits_per_number
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights import frame_cost

from ..machine.chips import CHIPS, bandwidth_gb_s, chip_name
from ..machine.copy_bandwidth import measured_gb_s
from ..machine.facts import Facts

UNREAD = (TokenEmbedding, StackedEmbedding)  # a row of a table per frame is not worth counting


@dataclass(frozen=True)
class Bandwidth:
    """Memory bandwidth and where the figure comes from."""

    gb_s: float
    source: str


def bandwidth(
    facts: Facts, chip: str | None = None, measure: Callable[[], float] = measured_gb_s
) -> Bandwidth:
    """Of the chip named, else of this machine: from the table, else by a copy test of 0.5 GB.

    Raises MoshiError for a name that isn't in the table.
    """
    if chip is not None:
        found = bandwidth_gb_s(chip)
        if found is None:
            names = ", ".join(dict.fromkeys(row.name for row in CHIPS))
            raise UsageError(f"unknown chip {chip!r}; known: {names} (or leave --chip out)")
        return Bandwidth(found, f"Apple's figure for {chip_name(chip)}, as asked")
    if facts.mlx.backend != "cpu":
        found = bandwidth_gb_s(facts.chip or "", facts.gpu_cores, facts.memory_gb)
        if found is not None:
            return Bandwidth(found, f"Apple's figure for {chip_name(facts.chip or '')}")
    return Bandwidth(measure(), "measured by a copy test")


def read_bytes(lm: Lm) -> int:
    """Bytes of weights that one frame reads: all but tables and conditioners.

    A set of weights that several depth slices share is read again by each.
    """
    schedule = lm.config.depth.schedule if lm.config.depth else ()
    total = 0
    for name, child in lm.children().items():
        if name == "condition_provider":
            continue
        for path, module in _leaves(name, child):
            size = sum(a.nbytes for a in module.values() if isinstance(a, mx.array))
            _, is_set, rest = path.partition("depth.weight_sets.")
            total += size * (schedule.count(int(rest.split(".")[0])) if is_set else 1)
    return total


def _leaves(path: str, node: object) -> list[tuple[str, nn.Module]]:
    """Every module at or below a node, with its path; embedding tables left out."""
    if isinstance(node, UNREAD):
        return []
    if isinstance(node, list):
        below = [(f"{path}.{i}", item) for i, item in enumerate(node)]
    elif isinstance(node, nn.Module):
        below = [(f"{path}.{name}", child) for name, child in node.children().items()]
    else:
        return []
    own = [(path, node)] if isinstance(node, nn.Module) else []
    return own + [leaf for item in below for leaf in _leaves(*item)]


def weights_bytes(lm: Lm) -> int:
    """Bytes of all weights in memory."""
    return sum(array.nbytes for _, array in tree_flatten(lm.parameters()))  # type: ignore


@dataclass(frozen=True)
class Floor:
    """What a frame reads at a typical point of the run, and the time that takes at least."""

    weights_bytes: int
    kv_bytes: int
    history_frames: int
    ms: float
    kv_bits: int = 16


def of_run(lm: Lm, history_frames: int, gb_s: float) -> Floor:
    """The floor after so many frames of history."""
    weights = read_bytes(lm)
    bits = bits_per_number(lm.kv_bits, lm.config.transformer.head_dim, lm.dtype)
    kv = frame_cost.kv_bytes(lm.config, history_frames, bits)
    return Floor(weights, kv, history_frames, frame_cost.floor_ms(weights + kv, gb_s), lm.kv_bits)
