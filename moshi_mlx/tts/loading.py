"""From a folder or repository to a Speaker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.model_files import weight_paths
from ..config.reading import parse_config, read_config
from ..errors import ConfigError, WeightsError
from ..memory import limit_memory
from ..mimi import Mimi, load_mimi
from ..text.tokenizer import TextTokenizer
from ..weights.adaptation import adaptation_from
from ..weights.loading import lm_from_files, working_dtype
from .script import FRAME_RATE_HZ
from .speaker import Speaker

SECONDS_MAX = 60.0


def load_tts(
    name_or_folder: str | Path,
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    kv_bits: int = 16,
    memory_limits: bool = True,
    lora: str | Path | None = None,
) -> Speaker:
    """Load a text to speech model: a folder, or a repository such as "kyutai/tts-1.6b-en_fr".

    Options as in `moshi_mlx.load`. A folder without a Mimi gives codes only. Raises ConfigError for
    a model of another kind, WeightsError, DownloadError.
    """
    if memory_limits:
        limit_memory()
    from ..hub import mimi_file, resolve, tokenizer_file

    folder = resolve(name_or_folder, revision, offline)
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    if not config.dep_q or config.user_q:
        raise ConfigError(f"{folder} is no text to speech model: those only speak")
    delay_steps, ahead = text_lead(raw, folder)
    adaptation = adaptation_from(lora, "auto", raw, folder, offline)
    paths = weight_paths(folder, raw)
    lm = lm_from_files(paths, config, working_dtype(dtype), kv_bits, adaptation)
    try:
        path, sizes = mimi_file(folder, raw)
    except WeightsError:  # codes can be spoken without
        mimi = None
    else:
        mimi = load_mimi(path, sizes, config.mimi_codebooks)
        assert isinstance(mimi, Mimi)
    tokenizer = TextTokenizer(tokenizer_file(folder, raw))
    given = raw.get("model_id")
    model_id = given if isinstance(given, Mapping) else {}
    return Speaker(lm, mimi, tokenizer, delay_steps, ahead, model_id)


def text_lead(raw: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """(steps by which text leads sound, words that the second text stream looks ahead).

    Raises ConfigError.
    """
    given = raw.get("tts_config")
    values = given if isinstance(given, Mapping) else {}
    at, seconds = f"{folder / 'config.json'}: tts_config", values.get("audio_delay")
    ahead = values.get("second_stream_ahead", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        seconds = -1
    if not 0 <= seconds <= SECONDS_MAX:
        raise ConfigError(f"{at} needs audio_delay, 0 to {SECONDS_MAX:g} seconds")
    if type(ahead) is not int or not 0 <= ahead <= 100:
        raise ConfigError(f"{at}: second_stream_ahead must be a whole number, not {ahead!r}")
    return int(seconds * FRAME_RATE_HZ), ahead
