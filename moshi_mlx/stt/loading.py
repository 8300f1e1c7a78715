"""From a folder or repository to a Transcriber."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..clock import FRAME_SAMPLES
from ..codec.interface import Codec
from ..config.model_files import weight_paths
from ..config.reading import parse_config, read_config
from ..errors import ConfigError
from ..memory import limit_memory
from ..mimi import Mimi, load_mimi
from ..text.tokenizer import TextTokenizer
from ..weights.adaptation import adaptation_from
from ..weights.loading import lm_from_files, working_dtype
from .transcriber import Transcriber


def load_stt(
    name_or_folder: str | Path,
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    kv_bits: int = 16,
    memory_limits: bool = True,
    lora: str | Path | None = None,
) -> Transcriber:
    """Load a speech to text model: a folder, or a repository such as "kyutai/stt-1b-en_fr-mlx".

    Options as in `moshi_mlx.load`. Raises ConfigError for a model of another kind, WeightsError,
    DownloadError.
    """
    if memory_limits:
        limit_memory()
    from ..hub import mimi_file, resolve, tokenizer_file

    folder = resolve(name_or_folder, revision, offline)
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    if config.dep_q:
        raise ConfigError(f"{folder} is no speech to text model: it speaks (dep_q is not 0)")
    seconds = stt_seconds(raw, folder)
    adaptation = adaptation_from(lora, "auto", raw, folder, offline)
    paths = weight_paths(folder, raw)
    lm = lm_from_files(paths, config, working_dtype(dtype), kv_bits, adaptation)
    mimi = load_mimi(*mimi_file(folder, raw), config.mimi_codebooks)
    check_mimi(mimi, config.card, folder)
    assert isinstance(mimi, Mimi)
    return Transcriber(lm, mimi, TextTokenizer(tokenizer_file(folder, raw)), *seconds)


def stt_seconds(raw: Mapping[str, Any], folder: Path) -> tuple[float, float]:
    """(delay of the text, silence in front of the sound). Raises ConfigError."""
    given = raw.get("stt_config")
    values = given if isinstance(given, Mapping) else {}

    def seconds(name: str) -> float:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 60:
            raise ConfigError(
                f"{folder / 'config.json'}: stt_config needs {name}, 0 to 60 seconds, "
                f"not {value!r}; is it a speech to text model?"
            )
        return float(value)

    return seconds("audio_delay_seconds"), seconds("audio_silence_prefix_seconds")


def check_mimi(mimi: Codec, card: int, folder: Path) -> None:
    """ConfigError for a Mimi of another clock or other codes than the language model's."""
    if mimi.frame_samples != FRAME_SAMPLES or mimi.bins != card:
        raise ConfigError(
            f"{folder}: its Mimi has frames of {mimi.frame_samples} samples and {mimi.bins} codes, "
            f"the language model needs {FRAME_SAMPLES} and {card}; fetch both again"
        )
