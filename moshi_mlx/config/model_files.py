"""Which file of a model's folder is what: config.json's word first, else the names Kyutai uses."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .file_kinds import kind_of_file
from .safe_names import file_inside, safe_name
from .shards import INDEX_ENDING, SHARD_INDEX, weight_files

PARTS = ("weights", "mimi", "tokenizer")
MERGED = "consolidated.safetensors"  # whole weights as Kyutai's trainer calls them
ADAPTER = "lora.safetensors"  # its other output, no model
VOICES = "voices.tgz"  # of a PersonaPlex
NOT_GUESSED = ("lora", "voices")  # by what else lies there
LONE_ADAPTER = (
    "holds an adapter and no model: give it as the adapter (lora), and the model that it was "
    "trained on as the model"
)


@dataclass(frozen=True)
class SharedFile:
    """A file that lies in several repositories of Kyutai's, one of which is `repository`.

    size: a codec's codes, or a tokenizer's pieces.
    """

    size: int
    repository: str


# Under these names, which is why fine-tunes leave them out.
KYUTAIS: dict[str, dict[str, SharedFile]] = {
    "mimi": {
        name: SharedFile(2048, "kyutai/moshiko-mlx-q4")
        for name in (
            "tokenizer-e351c8d8-checkpoint125.safetensors",
            "mimi-pytorch-e351c8d8@125.safetensors",
        )
    },
    "tokenizer": {
        "tokenizer_spm_32k_3.model": SharedFile(32000, "kyutai/moshiko-mlx-q4"),
        "tokenizer_spm_48k_multi6_2.model": SharedFile(48000, "kyutai/hibiki-2b-mlx-bf16"),
        "tokenizer_en_fr_audio_8000.model": SharedFile(8000, "kyutai/stt-1b-en_fr-mlx"),
        "tokenizer_spm_8k_en_fr_audio.model": SharedFile(8000, "kyutai/tts-1.6b-en_fr"),
        "tokenizer_en_audio_4000.model": SharedFile(4000, "kyutai/stt-2.6b-en-mlx"),
    },
}
KYUTAIS_REPOSITORY = re.compile(r"hf://kyutai/[\w.-]+/")
# part -> (key of config.json, the usual names, best first)
NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "weights": (
        "moshi_name",
        ("model.safetensors", "model.q8.safetensors", "model.q4.safetensors", MERGED),
    ),
    "mimi": ("mimi_name", ("tokenizer-e351c8d8-checkpoint125.safetensors",)),
    "tokenizer": (
        "tokenizer_name",
        (
            "tokenizer_spm_32k_3.model",
            "tokenizer_spm_48k_multi6_2.model",
            "tokenizer.model",
            "tokenizer.json",
        ),
    ),
    "lora": ("lora_name", (ADAPTER,)),
    "voices": ("voices_name", (VOICES,)),
}
MIMI_CONFIG_KEY = "mimi_config_name"


def file_names(
    config: Mapping[str, Any] | None,
    available: Iterable[str],
    parts: Iterable[str] = PARTS,
    source: str = "config.json",
) -> dict[str, str]:
    """part -> file name. Parts that nobody names and that are not there are left out.

    A name that config.json gives is returned even if the file is not there (the caller says that
    it is missing), but for Kyutai's own, which fine-tunes leave out. Weights in several files are
    returned as SHARD_INDEX. With Mimi comes "mimi_config" where config.json names one, with the
    weights an adapter that it names. Raises ConfigError for names that are none.
    """
    config, available, parts = config or {}, set(available), tuple(parts)
    if "weights" in parts and names_adapter(config):
        parts = (*parts, "lora")
    found = {}
    for part in parts:
        key, usual = NAMES[part]
        said = config.get(key)
        if said not in (None, ""):
            if _is_base(said, part, available):
                found |= {"weights": MERGED} if part == "weights" else {}
            else:
                found[part] = safe_name(said, key, source)
            continue
        names = [name for name in usual if name in available]
        if part == "weights" and not names and SHARD_INDEX in available:
            names = [SHARD_INDEX]
        if not names and part not in NOT_GUESSED:
            names = _only_candidate(part, available)
        if names:
            found[part] = names[0]
    if "mimi" in found and config.get(MIMI_CONFIG_KEY) not in (None, ""):
        found["mimi_config"] = safe_name(config[MIMI_CONFIG_KEY], MIMI_CONFIG_KEY, source)
    return found


def kyutais_name(said: Any, part: str) -> str | None:
    """The plain name of a file of Kyutai's that lies in several of their repositories, else None.

    `said`: as config.json gives it, plain or with the repository before it (hf://).
    """
    name = KYUTAIS_REPOSITORY.sub("", said, count=1) if isinstance(said, str) else ""
    return name if name in KYUTAIS.get(part, {}) else None


def _is_base(said: Any, part: str, available: set[str]) -> bool:
    """A name that a fine-tune's config has from its base's, for a file that isn't beside it."""
    if not isinstance(said, str) or said in available:
        return False
    if part == "weights":
        return said in NAMES[part][1] and MERGED in available
    return kyutais_name(said, part) is not None


def names_adapter(config: Mapping[str, Any]) -> bool:
    """Whether a model is to be loaded with an adapter of its own; `lora` alone: it is merged."""
    return bool(config.get("lora")) and config.get("lora_name") not in (None, "")


def adapter_path(folder: Path, config: Mapping[str, Any]) -> Path:
    """The adapter in a folder; `config`: of that folder. Raises as `part_path`."""
    names = file_names(config, [p.name for p in folder.iterdir()], ("lora",), str(folder))
    path = None if "lora" not in names else file_inside(folder, names["lora"])
    if path is None or not path.is_file():
        missing = names.get("lora", ADAPTER)
        raise WeightsError(f"{folder} has no adapter ({missing}): give its file or its repository")
    return path


def part_path(folder: Path, config: Mapping[str, Any], part: str) -> Path:
    """The file of one part ("weights", "mimi", "tokenizer") of a model folder.

    Raises WeightsError when it isn't there, ConfigError for a name that leads outside.
    """
    path = part_in(folder, config, part)
    if path is None and part == "weights" and (folder / ADAPTER).is_file():
        raise WeightsError(f"{folder} {LONE_ADAPTER}")
    if path is None:
        raise WeightsError(f"{folder} has no {part} file; fetch the model again")
    return path


def weight_paths(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """The file with the model's weights, or all of its shards. Raises as `part_path`."""
    path = part_path(folder, config, "weights")
    return weight_files(folder, path.relative_to(folder).as_posix())


def mimi_config_path(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """The file with Mimi's sizes, where config.json names one. Raises as `part_path`."""
    return part_in(folder, config, "mimi_config")


def part_in(folder: Path, config: Mapping[str, Any], part: str) -> Path | None:
    """As `part_path`, None for a part that nobody names and that isn't there."""
    wanted = ("mimi",) if part == "mimi_config" else (part,)
    names = file_names(config, names_in(folder), wanted, str(folder / "config.json"))
    if part not in names:
        return None
    path = file_inside(folder, names[part])
    if not path.is_file():
        raise WeightsError(f"{path} is missing ({part}); fetch the model again")
    if part == "tokenizer" and (other := kind_of_file(path)) is not None:
        raise WeightsError(f"{path} is {other}")  # the others' readers say so themselves
    return path


def names_in(folder: Path) -> list[str]:
    """Names of what lies in a folder and, for weights alone, in the folders in it."""
    names = [path.name for path in folder.iterdir()]
    if any(name.endswith((".safetensors", INDEX_ENDING)) for name in names):
        return names
    return names + [path.relative_to(folder).as_posix() for path in folder.glob("*/*.safetensors")]


def model_name(folder: Path) -> str:
    """As a person calls it: a repository in Hugging Face's cache by its name, not by its commit."""
    if folder.parent.name == "snapshots":
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return folder.name


def _only_candidate(part: str, available: set[str]) -> list[str]:
    """`helium-1-preview-2b-bf16.safetensors`: a name of its own, but the only one there.

    Weights may lie in a folder of the repository where none lie beside config.json.
    """
    ending = ".model" if part == "tokenizer" else ".safetensors"
    of_mimi = {n for n in available if is_mimi(n)}
    pool = of_mimi if part == "mimi" else available - of_mimi
    names = [n for n in pool if n.endswith(ending) and not n.endswith(ADAPTER)]
    here = [n for n in names if "/" not in n]
    if part == "weights" and not here:
        here = names
    return here if len(here) == 1 else []


def folders_within(available: Iterable[str]) -> list[str]:
    """The folders that hold a config.json and weights, where the top holds neither."""
    names = set(available)
    at_top = {n for n in names if "/" not in n}
    if "config.json" in at_top or any(n.endswith((".safetensors", INDEX_ENDING)) for n in at_top):
        return []
    folders = {n.rpartition("/")[0] for n in names if n.endswith("/config.json")}
    weights = {n.rpartition("/")[0] for n in names if n.endswith((".safetensors", INDEX_ENDING))}
    return sorted(folders & weights)


def is_mimi(name: str) -> bool:
    """Whether a file's name is usual for a codec's weights."""
    plain = name.rpartition("/")[2]
    return plain.startswith("tokenizer-") or "mimi" in plain
