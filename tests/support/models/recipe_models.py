"""Models that lie on the disk in a given recipe: small ones to load, sizes of the 7B to look at."""

import json
import shutil
from pathlib import Path

from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.hub import NANO
from moshi_mlx.weights.recipes import Recipe
from moshi_mlx.weights.tensor_names import expected
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.entries import Entry
from quantize.checkpoint.plan import all_slots, make_plan
from quantize.checkpoint.target import make_target
from quantize.checkpoint.writer import header_of
from quantize.recipe.recipes import RECIPES

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def small(folder: Path, recipe: str) -> Path:
    """nano in this recipe, as `moshi quantize` makes it (bf16 as it comes)."""
    if recipe == "bf16":
        shutil.copytree(NANO, folder)
    else:
        make_target(open_checkpoint("nano"), folder, RECIPES[recipe])
    return folder


def without_provenance(folder: Path) -> None:
    """As a folder of Kyutai's is: config.json says nothing about the recipe."""
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    raw.pop("quantization", None)
    path.write_text(json.dumps(raw))


def cached(cache: Path, repository: str, folder: Path) -> None:
    """The folder's files as a complete download in Hugging Face's cache."""
    root = cache / ("models--" + repository.replace("/", "--"))
    shutil.copytree(folder, root / "snapshots" / COMMIT)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)


def seven_b(folder: Path, recipe: str) -> Path:
    """The 7B's true header and file size, without its numbers (a sparse file)."""
    config = parse_config(raw_preset("moshi-7b"))
    entries = [Entry(name, (), shape) for name, shape in expected(config).items()]
    plan = make_plan(entries, RECIPES.get(recipe, Recipe("bf16", ())))
    slots = all_slots(plan)
    header = header_of(slots, {})
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(slot.num_bytes for slot in slots.values()))
    return folder
