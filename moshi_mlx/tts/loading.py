"""From a folder or repository to a Speaker."""

from pathlib import Path
from typing import Unpack

from ..errors import ConfigError
from ..loading.model_folder import LoadOptions, ModelFolder
from .script import FRAME_RATE_HZ
from .speaker import Speaker
from .voice_names import VoiceFinder

SECONDS_MAX = 60.0


def load_tts(
    name_or_folder: str | Path, dtype: str | None = None, **options: Unpack[LoadOptions]
) -> Speaker:
    """Load a text to speech model: a folder, or a repository such as "kyutai/tts-1.6b-en_fr".

    Options as in `moshi_mlx.load`. A folder without a Mimi gives codes only. Raises ConfigError for
    a model of another kind, WeightsError, DownloadError.
    """
    folder = ModelFolder(name_or_folder, dtype, **options)
    if not folder.config.dep_q or folder.config.user_q:
        raise ConfigError(f"{folder.path} is no text to speech model: those only speak")
    delay_steps, ahead = text_lead(folder)
    parts, model_id = folder.parts(), folder.section("model_id")
    finder = VoiceFinder.of(folder.path, folder.raw, options.get("offline"))
    return Speaker(parts.lm, parts.mimi, parts.tokenizer, delay_steps, ahead, model_id, finder)


def text_lead(folder: ModelFolder) -> tuple[int, int]:
    """(steps by which text leads sound, words that the second text stream looks ahead).

    Raises ConfigError.
    """
    values = folder.section("tts_config")
    at, seconds = f"{folder.path / 'config.json'}: tts_config", values.get("audio_delay")
    ahead = values.get("second_stream_ahead", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        seconds = -1
    if not 0 <= seconds <= SECONDS_MAX:
        raise ConfigError(f"{at} needs audio_delay, 0 to {SECONDS_MAX:g} seconds")
    if type(ahead) is not int or not 0 <= ahead <= 100:
        raise ConfigError(f"{at}: second_stream_ahead must be a whole number, not {ahead!r}")
    return int(seconds * FRAME_RATE_HZ), ahead
