"""The recipes of `moshi quantize`: those of the library's table, and a user's own from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.errors import UsageError
from moshi_mlx.weights import recipes
from moshi_mlx.weights.recipes import AFFINE_BITS, AFFINE_GROUPS, MODES, Format, Recipe

from ..errors import QuantizeError

RECIPES: Mapping[str, Recipe] = {
    name: recipe for name, recipe in recipes.RECIPES.items() if recipe.quantizes
}


def find_recipe(name_or_file: str) -> Recipe:
    """A known recipe by name, or the user's own from a JSON file. Raises UsageError or
    QuantizeError."""
    if name_or_file in RECIPES:
        return RECIPES[name_or_file]
    path = Path(name_or_file).expanduser()
    if path.suffix == ".json" or path.is_file():
        return read_recipe(path)
    raise UsageError(
        f"unknown recipe {name_or_file!r}; known: {', '.join(RECIPES)}, or a JSON file of your own"
    )


def read_recipe(path: Path) -> Recipe:
    """`{"pattern": {"bits": 4, "group_size": 64}, "pattern": "keep", ...}`, in order."""
    raw = read_json_object(path, QuantizeError, "a recipe maps patterns to formats")
    if not raw:
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
