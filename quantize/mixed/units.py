"""The parts of a model that a mixed recipe decides about one by one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.weights.recipes import Format, fitting, quantizable

from ..checkpoint.entries import Entry
from ..checkpoint.plan import shapes_of

# Bits that a unit may get, one scale for 64 weights. What no logit depends on gets the last.
CHOICES = tuple(Format(bits, 64) for bits in (2, 3, 4, 5, 6, 8))
UNMEASURED = ("condition_provider", "extra_heads")
SLICE = re.compile(r"depformer\.slices\.(\d+)\.(\w+).*")


@dataclass(frozen=True)
class Unit:
    """`patterns`: of a recipe's rules; `entries`: the matrices of the file that they fit."""

    patterns: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return self.patterns[0]

    def num_bytes(self, chosen: Format) -> int:
        """In the file; bf16 where no group of the format divides the width."""
        return sum(_num_bytes(entry, fitting(chosen, entry.shape[1])) for entry in self.entries)


def _num_bytes(entry: Entry, chosen: Format | None) -> int:
    bits = 16 if chosen is None else chosen.bits_per_weight
    return round(entry.shape[0] * entry.shape[1] * bits / 8)


def units_of(entries: Sequence[Entry], config: LmConfig) -> list[Unit]:
    """Every quantizable matrix in one unit, in the file's order.

    Each linear layer of the temporal transformer, each set of weights of the depth transformer,
    each kind of embedding, and the heads.
    """
    matrices = quantizable(shapes_of(entries))
    found: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        if entry.name in matrices:
            found.setdefault(_patterns(entry.module, config), []).append(entry)
    return [Unit(patterns, tuple(members)) for patterns, members in found.items()]


def _patterns(module: str, config: LmConfig) -> tuple[str, ...]:
    first = module.partition(".")[0]
    if first in (*UNMEASURED, "audio_embs", "text_emb"):
        return (first,)
    match = SLICE.fullmatch(module)
    if match is None or config.depth is None:
        return (module,)
    s, kind, schedule = int(match[1]), match[2], config.depth.schedule
    if kind in ("emb", "linear_out"):
        return (f"depformer.slices.*.{kind}",)
    slices = [i for i, w in enumerate(schedule) if w == schedule[s]]
    kinds = ("transformer", "linear_in")
    return tuple(f"depformer.slices.{i}.{kind}" for i in slices for kind in kinds)
