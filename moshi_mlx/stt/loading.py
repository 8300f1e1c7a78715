"""From a folder or repository to a Transcriber."""

from pathlib import Path
from typing import Unpack

from ..errors import ConfigError
from ..loading.model_folder import LoadOptions, ModelFolder
from .transcriber import Transcriber

SECONDS_MAX = 60.0


def load_stt(
    name_or_folder: str | Path, dtype: str | None = None, **options: Unpack[LoadOptions]
) -> Transcriber:
    """Load a speech to text model: a folder, or a repository such as "kyutai/stt-1b-en_fr-mlx".

    Options as in `moshi_mlx.load`. Raises ConfigError for a model of another kind, WeightsError,
    DownloadError.
    """
    folder = stt_folder(name_or_folder, dtype, **options)
    return Transcriber(folder.lm(), folder.mimi(), folder.tokenizer(), *stt_seconds(folder))


def stt_folder(
    name_or_folder: str | Path, dtype: str | None = None, **options: Unpack[LoadOptions]
) -> ModelFolder:
    """The model's files, fetched if need be, and nothing of them loaded. Raises as `load_stt`."""
    folder = ModelFolder(name_or_folder, dtype, **options)
    if folder.config.dep_q:
        raise ConfigError(f"{folder.path} is no speech to text model: it speaks (dep_q is not 0)")
    stt_seconds(folder)
    return folder


def stt_seconds(folder: ModelFolder) -> tuple[float, float]:
    """(delay of the text, silence in front of the sound). Raises ConfigError."""
    values = folder.section("stt_config")

    def seconds(name: str) -> float:
        value = values.get(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value <= SECONDS_MAX
        ):
            raise ConfigError(
                f"{folder.path / 'config.json'}: stt_config needs {name}, 0 to {SECONDS_MAX:g} "
                f"seconds, not {value!r}; is it a speech to text model?"
            )
        return float(value)

    return seconds("audio_delay_seconds"), seconds("audio_silence_prefix_seconds")
