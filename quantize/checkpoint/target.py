"""From a source folder to a complete target folder, which appears under its name only when whole.

Everything is made in `.TARGET.partial` beside it and renamed at the end. An interrupted run leaves
that folder, and the same command goes on from it; a failed one removes it.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from moshi_mlx.config.model_files import kyutais_name
from moshi_mlx.config.safe_names import file_inside
from moshi_mlx.hub import mimi_file, tokenizer_file
from moshi_mlx.output.whole_file import disk_name
from moshi_mlx.weights.recipes import Recipe

from ..errors import QuantizeError
from ..recipe.rounding import Rounding, nearest
from .checkpoint import Checkpoint, fingerprint, plan_of
from .convert import Rounded, convert
from .place import (
    LOCK,
    check_target,
    partial_folder,
    partial_of,
    put_in_place,
    real_target,
    write_new,
)
from .plan import Planned, bits_per_weight, fallbacks

SMALL_PARTS = ("mimi", "tokenizer", "mimi_config", "voices")  # copied as they are
PREPARED = "prepared"  # the folder in the partial one where modules wait that were rounded first
Prepare = Callable[[list[Planned], Path], Rounded]
Papers = Mapping[str, Callable[[Path], str]]  # name -> its text, when the rest is in the folder
NO_PAPERS: Papers = MappingProxyType({})


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
    papers: Papers = NO_PAPERS,
    copies: Mapping[str, Path] | None = None,
) -> Outcome:
    """Quantize into the folder `target`. Raises QuantizeError, WeightsError.

    `prepare(plan, folder)` may round modules before the rest, into a folder that is removed.
    `papers`: text files for the target. `copies`: of `small_parts`.
    """
    plan = plan_of(checkpoint, recipe)
    check_target(target, checkpoint.folder, force)
    real = real_target(target)
    copies = small_parts(checkpoint) if copies is None else copies
    check_disk(plan, real, copies.values(), times=1 if prepare is None else 2)
    name = f"model.{re.sub(r'[^A-Za-z0-9_-]+', '-', recipe.name)}.safetensors"
    made_by = provenance(checkpoint, recipe, rounding_name)
    with partial_folder(real, target) as partial:
        try:
            metadata = metadata_of(checkpoint, made_by)
            options = {} if prepare is None else {"ready": prepare(plan, partial / PREPARED)}
            convert(
                checkpoint.source, plan, partial / name, metadata, rounding, progress, **options
            )
            made_by["bits_per_weight"] = bits_per_weight(plan)
            _complete(checkpoint, partial, name, made_by, copies, papers)
            put_in_place(partial, real, force)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise  # after an interruption, what is whole in the partial folder is used again
    return Outcome(target, target / name, plan)


def small_parts(
    checkpoint: Checkpoint,
    mimi: str | None = None,
    tokenizer: str | None = None,
    offline: bool | None = None,
) -> dict[str, Path]:
    """part -> the file to copy: the source's, or what `mimi` and `tokenizer` name instead.

    Kyutai's own, which fine-tunes leave out, come from the cache. Raises QuantizeError,
    ConfigError, WeightsError.
    """
    found = {}
    for part in SMALL_PARTS:
        if part in checkpoint.names:
            path = file_inside(checkpoint.folder, checkpoint.names[part])
            if not path.is_file():
                raise QuantizeError(f"the source names {checkpoint.names[part]}, but it is missing")
            found[part] = path
    folder, raw = checkpoint.folder, checkpoint.raw_config
    if mimi is not None or _left_out("mimi", checkpoint):
        found["mimi"], sizes = mimi_file(folder, raw, mimi, offline)
        found.pop("mimi_config", None)
        found |= {} if sizes is None else {"mimi_config": sizes}
    if tokenizer is not None or _left_out("tokenizer", checkpoint):
        found["tokenizer"] = tokenizer_file(folder, raw, tokenizer, offline)
    return found


def _left_out(part: str, checkpoint: Checkpoint) -> bool:
    """Whether the source names a file of Kyutai's that isn't beside it."""
    named = kyutais_name(checkpoint.raw_config.get(f"{part}_name"), part)
    return named is not None and part not in checkpoint.names


def check_disk(plan: list[Planned], real: Path, small: Iterable[Path], times: int = 1) -> None:
    """Room for the whole target, less what an interrupted run has written already."""
    place, partial = real, partial_of(real)
    while not place.exists():
        place = place.parent
    written = sum(path.lstat().st_size for path in partial.glob("*")) if partial.is_dir() else 0
    copied = sum(path.stat().st_size for path in small)
    needed = times * sum(planned.num_bytes for planned in plan) + copied - written
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
    made_by = {
        "recipe": recipe.to_json(),
        "rounding": rounding_name,
        "source": checkpoint.label,
        "revision": checkpoint.revision,
        "tool": f"moshi quantize {tool_version()}",
    }
    if (adapter := checkpoint.adaptation) is not None:
        made_by["adapter"] = {"name": adapter.name, "scaling": adapter.scaling}
    return made_by


def tool_version() -> str:
    try:
        return version("moshi-local")
    except PackageNotFoundError:
        return "from a checkout"


def _complete(
    checkpoint: Checkpoint,
    partial: Path,
    weights: str,
    made_by: dict[str, Any],
    copies: Mapping[str, Path],
    papers: Papers,
) -> None:
    """config.json with our mark, Mimi and the tokenizer copied, and the papers."""
    config: dict[str, Any] = {**checkpoint.raw_config, "moshi_name": weights}
    if "mimi" in copies:
        config.pop("mimi_config_name", None)  # of another Mimi, unless it is copied too
    taken = {disk_name(name) for name in (weights, "config.json", LOCK, *papers)}
    for part, origin in copies.items():
        name = origin.name if disk_name(origin.name) not in taken else f"{part}-{origin.name}"
        taken.add(disk_name(name))
        (partial / name).unlink(missing_ok=True)
        shutil.copyfile(origin, partial / name)
        config[f"{part}_name"] = name
    keep = [weights, "config.json", *(config[f"{part}_name"] for part in copies)]
    for path in partial.iterdir():  # of an interrupted run with another recipe
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (*keep, LOCK):
            path.unlink()
    config["quantization"] = made_by | {"files": [*keep, *papers]}  # `place` replaces no others
    write_new(partial / "config.json", json.dumps(config, indent=1) + "\n")
    for name, text in papers.items():
        write_new(partial / name, text(partial))
