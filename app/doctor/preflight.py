"""Before a download of gigabytes: will this model keep up on this machine? Takes half a second.

    found = preflight("kyutai/moshiko-mlx-q4")
    for line in found.lines: print(line)      # at most a handful, each says what to do
    found.answer                              # "yes", "tight", "no", or None where nobody can tell

Nothing is downloaded, nothing asked of the network, and it never raises.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.model_files import weight_paths
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config, read_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.hub import resolve
from moshi_mlx.lm.layers.kv_ring import bits_per_number
from moshi_mlx.weights import frame_cost
from moshi_mlx.weights.recipes import RECIPES, name_of, smaller_than

from ..machine.chips import bandwidth_gb_s, chip_name
from ..machine.facts import Facts, gather
from ..machine.verdict import (
    MIMI_BYTES,
    NO,
    RUNTIME_BYTES,
    YES,
    Verdict,
    frame_bytes,
    of_floor,
)
from . import checks

# name of a repository -> preset whose sizes it has
FAMILIES: tuple[tuple[str, str], ...] = (
    (r"moshi(ko|ka)|personaplex|j-moshi", "moshi-7b"),
    (r"hibiki-1b", "hibiki-1b"),
    (r"hibiki-zero", "hibiki-zero"),
    (r"hibiki", "hibiki-2b"),
)
IN_BF16 = re.compile(r"nvidia/personaplex-7b-v1|kyutai/\w+-rl-seamless|nu-dialogue/j-moshi(-ext)?")
MOST_BYTES_ON_A_CPU = 10**9


@dataclass(frozen=True)
class Preflight:
    """What stands in the way (`lines`, most important first) and whether the model keeps up."""

    answer: str | None
    lines: tuple[str, ...]

    @property
    def keeps_up(self) -> bool:
        """False only where it is known that it won't."""
        return self.answer != NO


@dataclass(frozen=True)
class ModelSize:
    config: LmConfig
    recipe: str
    weights_bytes: int
    missing_bytes: int  # still to be downloaded
    kv_bits: int = 16

    @property
    def frame_bytes(self) -> int:
        """At full context; the weights that lie on the disk tell their own precision."""
        recipe = RECIPES.get(self.recipe, RECIPES["bf16"])  # the share differs little
        read = frame_cost.weight_bytes_per_frame(self.config, recipe)
        of = frame_cost.model_bytes(self.config, recipe)
        return self.weights_bytes * read // max(1, of) + self.kv_bytes

    @property
    def memory_bytes(self) -> int:
        beside = MIMI_BYTES + RUNTIME_BYTES
        return self.weights_bytes + self.kv_bytes + beside

    @property
    def kv_bytes(self) -> int:
        head = self.config.transformer.head_dim
        bits = bits_per_number(self.kv_bits, head, mx.bfloat16)
        return frame_cost.kv_bytes(self.config, kv_bits=bits)


def preflight(model: str | Path, facts: Facts | None = None, kv_bits: int = 16) -> Preflight:
    """The doctor's fast part for one model: a repository's name, a folder, or `nano`.

    `kv_bits`: of the KV cache that the talk will have, 16 or 8.
    """
    facts = facts or gather((str(model),), network=False, audio=False)
    lines = [
        f"{line.title}: {line.text}: {line.advice}"
        for part in (checks.python, checks.mlx, checks.packages)
        for line in part(facts)
        if line.level == checks.PROBLEM
    ]
    if str(model) == "nano":
        return Preflight(NO if lines else YES, tuple(lines))
    found = describe(model, facts)
    if found is None:
        return Preflight(NO if lines else None, tuple(lines))
    found = replace(found, kv_bits=kv_bits)
    lines += room(found, facts)
    verdict = estimate(found.recipe, found.frame_bytes, facts)
    answer = NO if lines else verdict.answer if verdict else None
    if verdict is not None and verdict.answer != YES:
        lines.append(_speed_line(verdict, found, facts))
    if facts.mlx.backend == "cpu" and found.frame_bytes > MOST_BYTES_ON_A_CPU:
        size = f"{found.frame_bytes / 1e9:.1f} GB"
        lines.append(f"speed: MLX runs on the CPU here, and {found.recipe} reads {size} a frame")
        answer = NO
    return Preflight(answer, tuple(lines))


def estimate(recipe: str, frame_bytes: int, facts: Facts) -> Verdict | None:
    """From the chip's bandwidth alone; None for a chip that isn't in the table."""
    if facts.mlx.backend == "cpu":
        return None
    bandwidth = bandwidth_gb_s(facts.chip or "", facts.gpu_cores, facts.memory_gb)
    if bandwidth is None:
        return None
    return of_floor(recipe, frame_cost.floor_ms(frame_bytes, bandwidth))


def describe(model: str | Path, facts: Facts) -> ModelSize | None:
    """Sizes of a model without loading or downloading it; None where the name tells nothing."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _of_folder(folder)
    here = facts.models.get(str(model)) == "complete"
    if here and (found := _of_cache(str(model))) is not None:
        return found
    name, recipe = str(model).lower(), name_of(str(model))
    recipe = recipe or ("bf16" if IN_BF16.fullmatch(name) else "")  # their names don't say it
    preset = next((preset for pattern, preset in FAMILIES if re.search(pattern, name)), None)
    if preset is None or recipe not in RECIPES:
        return None
    config = parse_config(raw_preset(preset))
    size = frame_cost.model_bytes(config, RECIPES[recipe])
    missing = 0 if here else size + MIMI_BYTES
    return ModelSize(config, recipe, size, missing)


def _of_folder(folder: Path) -> ModelSize | None:
    try:
        raw = read_config(folder)
        config = parse_config(raw, str(folder / "config.json"))
        size = sum(path.stat().st_size for path in weight_paths(folder, raw))
        return ModelSize(config, name_of(folder), size, 0)
    except (MoshiError, OSError):
        return None  # loading will say what is wrong with it


def _of_cache(repository: str) -> ModelSize | None:
    try:
        return _of_folder(resolve(repository, offline=True))
    except MoshiError:
        return None


def room(model: ModelSize, facts: Facts) -> list[str]:
    """Memory and disk, where they don't suffice."""
    lines = []
    usable = checks.usable_memory_bytes(facts)
    if usable is not None and model.memory_bytes > usable:
        lines.append(
            f"memory: {model.recipe} needs {model.memory_bytes / 1e9:.1f} GB and this machine can "
            f"give {usable / 1e9:.1f} GB: choose fewer bits, a smaller model, or `--model nano`"
        )
    if facts.disk_free_bytes is not None and facts.disk_free_bytes < model.missing_bytes:
        lines.append(
            f"disk: {model.missing_bytes / 1e9:.1f} GB to download and "
            f"{facts.disk_free_bytes / 1e9:.1f} GB free: make room, or set HF_HOME to another disk"
        )
    return lines


def _speed_line(verdict: Verdict, model: ModelSize, facts: Facts) -> str:
    bandwidth = bandwidth_gb_s(facts.chip or "", facts.gpu_cores, facts.memory_gb) or 0.0
    least = frame_cost.floor_ms(model.frame_bytes, bandwidth)
    text = (
        f"speed: {verdict} (reading {model.frame_bytes / 1e9:.1f} GB a frame at {bandwidth:g} GB/s "
        f"takes {least:.0f} of 80 ms on the {chip_name(facts.chip or '')})"
    )
    return f"{text}: {_what_then(verdict, model, facts)}"


def _what_then(verdict: Verdict, model: ModelSize, facts: Facts) -> str:
    """The largest recipe that would do, else what is left to try."""
    smaller = smaller_than(model.recipe)
    if smaller is None:  # a mix of one's own: what it could be smaller than, nobody knows
        return "choose fewer bits" if verdict.answer == NO else "measure it with `moshi bench`"
    for recipe in smaller:
        other = estimate(recipe, frame_bytes(model.config, recipe), facts)
        if other is not None and other.answer == YES:
            return f"choose {recipe}"
    if verdict.answer == NO:
        return f"choose {smaller[-1]}" if smaller else "it will lag; try a smaller model"
    return "measure it with `moshi bench`"
