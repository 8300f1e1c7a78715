"""A model's folder opened, and its parts: language model, Mimi and tokenizer that belong together.

What speech to text, text to speech and translation have in common when they are loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ..clock import FRAME_SAMPLES
from ..codec.interface import Codec
from ..config.lm_config import LmConfig
from ..config.model_files import weight_paths
from ..config.reading import parse_config, read_config
from ..errors import ConfigError, WeightsError
from ..lm.model import Lm
from ..memory import limit_memory
from ..mimi import Mimi, load_mimi
from ..text.tokenizer import TextTokenizer
from ..weights.adaptation import adaptation_from
from ..weights.finite import damaged
from ..weights.loading import lm_from_files, working_dtype


class LoadOptions(TypedDict, total=False):
    """Options of loaders, as in `moshi_mlx.load`."""

    revision: str | None
    offline: bool | None
    kv_bits: int
    memory_limits: bool
    lora: str | Path | None


@dataclass(frozen=True)
class ModelParts:
    """What a model is made of; no Mimi where the folder has none."""

    lm: Lm
    mimi: Mimi | None
    tokenizer: TextTokenizer


class ModelFolder:
    """A model's folder, its config read; nothing else is yet."""

    def __init__(
        self,
        name_or_folder: str | Path,
        dtype: str | None,
        *,
        revision: str | None = None,
        offline: bool | None = None,
        kv_bits: int = 16,
        memory_limits: bool = True,
        lora: str | Path | None = None,
    ) -> None:
        """Raises ConfigError, DownloadError, and WeightsError for a folder without weights."""
        if memory_limits:
            limit_memory()
        from ..hub import resolve

        self._dtype, self._kv_bits, self._lora, self._offline = dtype, kv_bits, lora, offline
        self.path = resolve(name_or_folder, revision, offline)
        self.raw: Mapping[str, Any] = read_config(self.path)
        self.config: LmConfig = parse_config(self.raw, str(self.path / "config.json"))

    def section(self, name: str) -> Mapping[str, Any]:
        """An object within config.json, empty where there is none."""
        given = self.raw.get(name)
        return given if isinstance(given, Mapping) else {}

    def parts(self) -> ModelParts:
        """The parts, loaded. Raises WeightsError, and ConfigError where they don't fit."""
        from ..hub import mimi_file

        try:
            mimi_file(self.path, self.raw)
        except WeightsError:  # codes can be spoken and translated without
            mimi = None
        else:
            mimi = self.mimi()
        return ModelParts(self.lm(), mimi, self.tokenizer())

    def lm(self) -> Lm:
        """The language model, with its adapter. Raises WeightsError."""
        adaptation = adaptation_from(self._lora, "auto", self.raw, self.path, self._offline)
        paths, dtype = weight_paths(self.path, self.raw), working_dtype(self._dtype)
        return lm_from_files(paths, self.config, dtype, self._kv_bits, adaptation)

    def tokenizer(self) -> TextTokenizer:
        """The text tokenizer. Raises WeightsError."""
        from ..hub import tokenizer_file

        return TextTokenizer(tokenizer_file(self.path, self.raw))

    def mimi(self) -> Mimi:
        """The codec. Raises WeightsError, and ConfigError for one of another model."""
        from ..hub import mimi_file

        mimi = load_mimi(
            *mimi_file(self.path, self.raw), self.config.mimi_codebooks, memory_limits=False
        )
        check_codec(mimi, self.config, self.path)
        assert isinstance(mimi, Mimi)
        return mimi


def check_codec(codec: Codec, config: LmConfig, folder: Path) -> None:
    """ConfigError for a Mimi whose clock or codes are not those of the language model."""
    if codec.frame_samples != FRAME_SAMPLES:
        raise ConfigError(
            f"{folder}: its Mimi has frames of {codec.frame_samples} samples, Moshi needs "
            f"{FRAME_SAMPLES} (24 kHz, 12.5 a second); take another mimi_name"
        )
    if codec.bins != config.card:
        raise ConfigError(
            f"{folder}: its Mimi has {codec.bins} codes, the language model {config.card} (card); "
            "they are not of one model: fetch both again"
        )


def no_numbers(folder: Path) -> WeightsError:
    """What to say of a model whose logits are no numbers: the damaged tensor, all of them read."""
    for found in damaged(weight_paths(folder, read_config(folder))):
        return WeightsError(
            f"{found.path} is damaged: {found.name} holds values that are not finite; "
            "fetch the model again"
        )
    return WeightsError(
        f"{folder} computes no numbers: its weights are too large for their dtype, or an adapter "
        "is damaged; fetch them again, as bf16"
    )
