"""Recipes as data: which weight is stored in which format, decided by the first pattern that fits.

A pattern names a module and covers everything below it: `depformer`, `transformer.layers.0`, with
layers counted from the end too (`transformer.layers.-1`). `*` stands for one dotted part or a piece
of it, `**` for any number of parts (`**.linear_in`). What no pattern covers is kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..errors import QuantizeError


@dataclass(frozen=True)
class Format:
    """One of MLX's formats: `bits` a weight, one scale for every `group_size` weights of a row."""

    bits: int
    group_size: int
    mode: str = "affine"

    @property
    def bits_per_weight(self) -> float:
        """With the scales: affine has a 16-bit scale and bias a group, the others 8 bits."""
        return self.bits + (32 if self.mode == "affine" else 8) / self.group_size

    def __str__(self) -> str:
        if self.mode != "affine":
            return self.mode
        return f"{self.bits} bit, group {self.group_size}"


AFFINE_BITS = (2, 3, 4, 5, 6, 8)
AFFINE_GROUPS = (128, 64, 32)
MODES = {  # MLX's other formats come in one size each
    "mxfp4": Format(4, 32, "mxfp4"),
    "nvfp4": Format(4, 16, "nvfp4"),
    "mxfp8": Format(8, 32, "mxfp8"),
}
Rules = tuple[tuple[str, Format | None], ...]  # pattern -> format; None: keep as it is


@dataclass(frozen=True)
class Recipe:
    """A name and its rules; the first pattern that fits decides."""

    name: str
    rules: Rules

    def format_of(self, path: str, num_layers: int) -> Format | None:
        """The format for the module `path`, None for keep."""
        number = self.rule_of(path, num_layers)
        return None if number is None else self.rules[number][1]

    def rule_of(self, path: str, num_layers: int) -> int | None:
        """Which rule decides about the module `path`; None: no rule covers it."""
        names = [name.split(".") for name in {path, _counted_from_the_end(path, num_layers)}]
        for number, (pattern, _) in enumerate(self.rules):
            if any(_covers(pattern.split("."), name) for name in names):
                return number
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rules": [[pattern, format_to_json(chosen)] for pattern, chosen in self.rules],
        }


SENSITIVE = (  # small or close to the output: what mixed recipes store with more bits
    *("text_emb", "audio_embs", "text_linear", "extra_heads", "condition_provider", "depformer"),
    *("transformer.layers.0", "transformer.layers.-1"),
)


def uniform(name: str, chosen: Format) -> Recipe:
    return Recipe(name, (("*", chosen),))


def mixed(name: str, low: Format, high: Format) -> Recipe:
    return Recipe(name, (*((pattern, high) for pattern in SENSITIVE), ("*", low)))


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        uniform("q8", Format(8, 64)),  # Kyutai's own choice, as is q4's group of 32
        uniform("q6", Format(6, 64)),
        uniform("q5", Format(5, 64)),
        uniform("q4", Format(4, 32)),
        uniform("q3", Format(3, 64)),
        mixed("mixed-4-6", Format(4, 64), Format(6, 64)),
        mixed("mixed-4-8", Format(4, 64), Format(8, 64)),
        *(uniform(name, chosen) for name, chosen in MODES.items()),
    )
}


def find_recipe(name_or_file: str) -> Recipe:
    """A known recipe by name, or the user's own from a JSON file. Raises QuantizeError."""
    if name_or_file in RECIPES:
        return RECIPES[name_or_file]
    path = Path(name_or_file).expanduser()
    if path.suffix == ".json" or path.is_file():
        return read_recipe(path)
    raise QuantizeError(
        f"unknown recipe {name_or_file!r}; known: {', '.join(RECIPES)}, or a JSON file of your own"
    )


def read_recipe(path: Path) -> Recipe:
    """`{"pattern": {"bits": 4, "group_size": 64}, "pattern": "keep", ...}`, in order."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QuantizeError(f"recipe {path} can't be read as JSON: {error}") from error
    if not isinstance(raw, dict) or not raw:
        raise QuantizeError(f"recipe {path} must map patterns to formats")
    return Recipe(
        path.stem, tuple((k, _format_from_json(v, f"{path}: {k!r}")) for k, v in raw.items())
    )


def _format_from_json(raw: Any, where: str) -> Format | None:
    if raw == "keep":
        return None
    if isinstance(raw, str) and raw in MODES:
        return MODES[raw]
    if not isinstance(raw, dict):
        raise QuantizeError(f'recipe {where} must be "keep", {", ".join(MODES)} or an object')
    if unknown := set(raw) - {"bits", "group_size", "mode"}:
        raise QuantizeError(
            f"recipe {where} has unknown keys {', '.join(sorted(unknown))}; "
            "known: bits, group_size, mode"
        )
    mode = raw.get("mode", "affine")
    if mode in MODES:
        chosen = MODES[mode]
        asked = Format(raw.get("bits", chosen.bits), raw.get("group_size", chosen.group_size), mode)
        if asked != chosen:
            raise QuantizeError(f"recipe {where}: {mode} has group size {chosen.group_size} only")
        return chosen
    bits, group_size = raw.get("bits"), raw.get("group_size", 64)
    if mode != "affine" or bits not in AFFINE_BITS or group_size not in AFFINE_GROUPS:
        raise QuantizeError(
            f"recipe {where} must have mode affine (bits {', '.join(map(str, AFFINE_BITS))}; "
            f"group_size {', '.join(map(str, AFFINE_GROUPS))}) or {', '.join(MODES)}"
        )
    return Format(bits, group_size)


def format_to_json(chosen: Format | None) -> Any:
    if chosen is None:
        return "keep"
    return {"bits": chosen.bits, "group_size": chosen.group_size, "mode": chosen.mode}


def fitting(chosen: Format, width: int) -> Format | None:
    """`chosen`, or the same bits with the largest smaller group that divides `width`; else None."""
    if width % chosen.group_size == 0:
        return chosen
    if chosen.mode == "affine":
        for group_size in AFFINE_GROUPS:
            if group_size < chosen.group_size and width % group_size == 0:
                return Format(chosen.bits, group_size)
    return None


def _covers(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether the parts of a pattern name `path` or a module above it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], path[start:]) for start in range(len(path)))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _covers(pattern[1:], path[1:])


def _counted_from_the_end(path: str, num_layers: int) -> str:
    """transformer.layers.31.norm1 -> transformer.layers.-1.norm1 (of 32)."""
    head, layer, rest = "transformer.layers.", "", ""
    if not path.startswith(head):
        return path
    layer, _, rest = path[len(head) :].partition(".")
    return f"{head}{int(layer) - num_layers}.{rest}" if layer.isdigit() else path
