"""A model that is to be quantized: where it lies, what its config says, which tensors it has."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.model_files import PARTS, file_names, names_in
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config, read_config
from moshi_mlx.config.shards import weight_files
from moshi_mlx.errors import DownloadError
from moshi_mlx.helium.config import HeliumConfig, parse_helium_config
from moshi_mlx.helium.weights import EMBEDDING, HEAD, untied
from moshi_mlx.hub import commit_of, resolve
from moshi_mlx.weights.adaptation import Adaptation, adaptation_from
from moshi_mlx.weights.lora import read_adapter

from ..errors import QuantizeError
from ..recipe.recipes import Recipe
from .adapted_source import AdaptedSource
from .entries import check_is_model, entries_of
from .plan import Planned, make_plan
from .source import Source

ADAPTER_KEYS = ("lora", "lora_name", "lora_rank", "lora_scaling")  # of no use once it is merged


@dataclass(frozen=True)
class Checkpoint:
    """A source, opened: nothing but headers has been read."""

    label: str  # repository or folder name, fit to be published
    revision: str | None
    folder: Path
    raw_config: dict[str, Any]
    config: LmConfig | HeliumConfig  # the latter where transformers wrote config.json
    names: dict[str, str]  # part -> file name
    source: Source  # the adapter merged into it
    adaptation: Adaptation | None = None


def open_checkpoint(
    name_or_folder: str,
    revision: str | None = None,
    offline: bool | None = None,
    parts: Collection[str] = PARTS,
    lora: str | Path | None = None,
) -> Checkpoint:
    """Find (and fetch) a model and map its weights. Raises MoshiError.

    `parts`: without those that come from elsewhere; `lora`: an adapter to merge, None for the one
    that the model's own config names, if it does.
    """
    folder = resolve(name_or_folder, revision, offline, parts)
    raw = _raw_config(folder)
    if raw.get("model_type") == "personaplex":
        with suppress(DownloadError):  # it speaks without voices, too
            resolve(name_or_folder, revision, offline, files=("voices",))
    available = names_in(folder)
    if not any(name.endswith((".safetensors", ".index.json")) for name in available):
        raise QuantizeError(f"{folder} holds no safetensors file: is it a model's folder?")
    names = file_names(raw, available, (*parts, "voices"), str(folder / "config.json"))
    if "weights" not in names:
        raise QuantizeError(
            f"{folder} holds several weight files; name one as moshi_name in its config.json"
        )
    paths = weight_files(folder, names["weights"])
    source = Source(paths)
    check_is_model(source.shapes, str(folder))
    config = _parse(raw, str(folder / "config.json"))
    if isinstance(config, HeliumConfig) and config.tied:
        _drop_equal_head(source, str(folder))
    adaptation = adaptation_from(lora, "merged", raw, folder, offline)
    if adaptation is not None:
        source = _adapted(paths, config, adaptation)
        raw = {key: value for key, value in raw.items() if key not in ADAPTER_KEYS}
    is_repository = not Path(name_or_folder).expanduser().is_dir() and name_or_folder != "nano"
    return Checkpoint(
        label=name_or_folder if is_repository else folder.resolve().name,
        revision=commit_of(folder) if is_repository else None,
        folder=folder,
        raw_config=raw,
        config=config,
        names=names,
        source=source,
        adaptation=adaptation,
    )


def _adapted(
    paths: list[Path], config: LmConfig | HeliumConfig, adaptation: Adaptation
) -> AdaptedSource:
    """Raises QuantizeError, and WeightsError for an adapter that doesn't fit."""
    if not isinstance(config, LmConfig):
        raise QuantizeError("a text model takes no adapter: those that there are teach to talk")
    return AdaptedSource(paths, read_adapter(adaptation.path, config, adaptation.scaling))


def _raw_config(folder: Path) -> dict[str, Any]:
    """config.json; Kyutai's own files came without one, told apart by what lies beside them."""
    helium = not (folder / "config.json").exists() and any(folder.glob("helium*"))
    return raw_preset("helium-2b") if helium else read_config(folder)


def _parse(raw: dict[str, Any], path: str) -> LmConfig | HeliumConfig:
    """A text model's config has transformers' keys, or Kyutai's without any audio."""
    text_only = "hidden_size" in raw or raw.get("n_q") == 0
    return parse_helium_config(raw, path) if text_only else parse_config(raw, path)


def _drop_equal_head(source: Source, path: str) -> None:
    """A head that is the embedding once more, as some tools write it. Raises WeightsError."""
    head, embedding = source.tensors.get(HEAD), source.tensors.get(EMBEDDING)
    if head is None:
        return
    if embedding is None or not np.array_equal(head.values, embedding.values):
        raise untied(path)
    del source.tensors[HEAD]


def plan_of(checkpoint: Checkpoint, recipe: Recipe) -> list[Planned]:
    """Raises WeightsError when the weights don't fit the config."""
    path = str(checkpoint.folder / checkpoint.names["weights"])
    return make_plan(entries_of(checkpoint.source.shapes, checkpoint.config, path), recipe)


def fingerprint(checkpoint: Checkpoint) -> str:
    """Changes when a source file does: a target begun from another source isn't continued."""
    digest, adaptation = hashlib.sha256(), checkpoint.adaptation
    paths = weight_files(checkpoint.folder, checkpoint.names["weights"])
    for path in paths + ([] if adaptation is None else [adaptation.path]):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns};".encode())
    if adaptation is not None:
        digest.update(f"{adaptation.scaling}".encode())
    return digest.hexdigest()[:16]
