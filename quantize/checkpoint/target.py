"""From a source folder to a complete target folder, which appears under its name only when whole.

Everything is made in `.TARGET.partial` beside it and renamed at the end. An interrupted run leaves
that folder, and the same command goes on from it; a failed one removes it.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from moshi_mlx.config.model_files import PARTS

from ..errors import QuantizeError
from ..recipe.recipes import Recipe
from ..recipe.rounding import Rounding, nearest
from .checkpoint import Checkpoint, fingerprint, plan_of
from .convert import Ready, convert
from .plan import Planned, bits_per_weight, fallbacks

NO_PAPERS: Mapping[str, str] = MappingProxyType({})
PREPARED = "prepared"  # the folder in the partial one where modules wait that were rounded first
Prepare = Callable[[list[Planned], Path], Ready]


@dataclass(frozen=True)
class Outcome:
    """What a run made."""

    folder: Path
    weights: Path
    plan: list[Planned]

    @property
    def num_bytes(self) -> int:
        return self.weights.stat().st_size

    @property
    def bits_per_weight(self) -> float:
        return bits_per_weight(self.plan)

    @property
    def fallbacks(self) -> list[str]:
        return fallbacks(self.plan)


def make_target(
    checkpoint: Checkpoint,
    target: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    rounding: Rounding = nearest,
    rounding_name: str = "nearest",
    progress: Callable[[int], object] = lambda num_weights: None,
    prepare: Prepare | None = None,
    papers: Mapping[str, str] = NO_PAPERS,
) -> Outcome:
    """Quantize into the folder `target`. Raises QuantizeError, WeightsError.

    `prepare(plan, folder)` may round modules before the rest, into a folder that is removed.
    `papers`: text files for the target, by name.
    """
    plan = plan_of(checkpoint, recipe)
    check_target(checkpoint, target, force)
    partial = target.with_name(f".{target.name}.partial")
    check_disk(plan, partial, copies=1 if prepare is None else 2)
    name = f"model.{re.sub(r'[^A-Za-z0-9_-]+', '-', recipe.name)}.safetensors"
    made_by = provenance(checkpoint, recipe, rounding_name)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        metadata = metadata_of(checkpoint, made_by)
        options = {} if prepare is None else {"ready": prepare(plan, partial / PREPARED)}
        convert(checkpoint.source, plan, partial / name, metadata, rounding, progress, **options)
        _complete(checkpoint, partial, name, made_by | {"bits_per_weight": bits_per_weight(plan)})
        for paper, text in papers.items():
            (partial / paper).write_text(text, encoding="utf-8")
        _put_in_place(partial, target)
    except KeyboardInterrupt:
        raise  # what is whole in the partial folder is used by the next run
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise QuantizeError(f"{target} can't be written: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Outcome(target, target / name, plan)


def check_target(checkpoint: Checkpoint, target: Path, force: bool) -> None:
    if not target.name or target.resolve() == checkpoint.folder.resolve():
        raise QuantizeError("the target is the source's own folder: choose another name")
    if os.path.lexists(target) and not force:
        raise QuantizeError(f"{target} exists: choose another name, or replace it with --force")
    if target.exists() and not target.is_dir():
        raise QuantizeError(f"{target} is a file: choose another name for the target folder")


def check_disk(plan: list[Planned], partial: Path, copies: int = 1) -> None:
    """Room for the whole target, less what an interrupted run has written already."""
    place = partial
    while not place.exists():
        place = place.parent
    written = sum(path.stat().st_size for path in partial.glob("*")) if partial.exists() else 0
    needed = copies * sum(planned.num_bytes for planned in plan) - written
    free = shutil.disk_usage(place).free
    if needed > free:
        raise QuantizeError(
            f"the target needs {needed / 1e9:.2f} GB and {place} has {free / 1e9:.2f} GB free: "
            "make room, or choose a smaller recipe"
        )


def metadata_of(checkpoint: Checkpoint, made_by: dict[str, Any]) -> dict[str, str]:
    """What the weight file's header says."""
    return {
        "format": "mlx",
        "quantization": json.dumps(made_by),
        "source_fingerprint": fingerprint(checkpoint),
    }


def provenance(checkpoint: Checkpoint, recipe: Recipe, rounding_name: str) -> dict[str, Any]:
    """How the target was made, for its config.json and its metadata."""
    return {
        "recipe": recipe.to_json(),
        "rounding": rounding_name,
        "source": checkpoint.label,
        "revision": checkpoint.revision,
        "tool": f"moshi quantize {tool_version()}",
    }


def tool_version() -> str:
    try:
        return version("moshi-local")
    except PackageNotFoundError:
        return "from a checkout"


def _complete(checkpoint: Checkpoint, partial: Path, weights: str, made_by: dict[str, Any]) -> None:
    """config.json, and Mimi and the tokenizer by hard link where the disk allows it."""
    config = {**checkpoint.raw_config, "moshi_name": weights}
    for part in (*PARTS, "mimi_config"):
        if part == "weights" or part not in checkpoint.names:
            continue
        name = checkpoint.names[part]
        origin = (checkpoint.folder / name).resolve()
        if not origin.is_file():
            raise QuantizeError(f"the source names {name}, but {origin} is missing")
        link_or_copy(origin, partial / name)
        config[f"{part}_name"] = name
    config["quantization"] = made_by
    (partial / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    keep = {weights, "config.json", *checkpoint.names.values()}
    for path in partial.iterdir():  # of an interrupted run with another recipe
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def link_or_copy(origin: Path, destination: Path) -> None:
    destination.unlink(missing_ok=True)
    try:
        os.link(origin, destination)
    except OSError:
        shutil.copyfile(origin, destination)


def _put_in_place(partial: Path, target: Path) -> None:
    """One rename; what was there (--force) is removed after the new folder is whole."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
