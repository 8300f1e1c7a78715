"""The parts of a model that talks, loaded and checked against each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..codec.interface import Codec
from ..config.lm_config import LmConfig
from ..config.model_files import weight_paths
from ..config.reading import parse_config, read_config
from ..errors import ConfigError
from ..lm.model import Lm
from ..mimi import load_mimi
from ..text.tokenizer import TextTokenizer
from ..weights.adaptation import LoraMode, adaptation_from, adaptation_of, with_adapter
from ..weights.loading import lm_from_files, working_dtype
from .model_folder import check_codec


@dataclass(frozen=True)
class TalkerParts:
    """See `moshi_mlx.moshi.Moshi`, which is made of them."""

    lm: Lm
    codec: Codec
    tokenizer: TextTokenizer
    folder: Path
    adapter: str
    adapters: dict[str, Lm]


def load_parts(
    name_or_folder: str | Path,
    codec: str,
    dtype: str | None,
    *,
    revision: str | None,
    offline: bool | None,
    kv_bits: int,
    mimi: str | Path | None,
    tokenizer: str | Path | None,
    lora: str | Path | None,
    lora_mode: LoraMode,
    adapters: Mapping[str, str | Path],
) -> TalkerParts:
    """As `moshi_mlx.load`, whose options these are. Raises as that does."""
    from ..hub import mimi_file, own_parts, resolve, tokenizer_file

    folder = resolve(name_or_folder, revision, offline, own_parts(mimi, tokenizer))
    raw: Mapping[str, Any] = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    check_converses(config, folder)
    paths = weight_paths(folder, raw)
    words = words_from(tokenizer_file(folder, raw, tokenizer, offline), config, tokenizer)
    adaptation = adaptation_from(lora, lora_mode, raw, folder, offline)
    others = {
        name: adaptation_of(source, "beside", raw, offline) for name, source in adapters.items()
    }
    mimi_path, mimi_config = mimi_file(folder, raw, mimi, offline)
    lm = lm_from_files(paths, config, working_dtype(dtype), kv_bits, adaptation)
    beside = {name: with_adapter(lm, other) for name, other in others.items()}
    sound = load_mimi(mimi_path, mimi_config, config.mimi_codebooks, codec, memory_limits=False)
    check_codec(sound, config, folder)
    name = "" if adaptation is None else adaptation.name
    return TalkerParts(lm, sound, words, folder, name, beside)


def words_from(path: Path, config: LmConfig, given: str | Path | None) -> TextTokenizer:
    """The tokenizer in a file. Raises ConfigError for a `given` one of another size."""
    words = TextTokenizer(path)
    if given is not None and len(words) != config.text_card:
        raise ConfigError(
            f"{given} has {len(words)} pieces, the language model {config.text_card} text "
            "tokens (text_card): they are not of one model, give another tokenizer"
        )
    return words


def check_converses(config: LmConfig, folder: Path) -> None:
    """ConfigError for a model that says nothing, or one that no user would reach: deaf."""
    if not config.dep_q:
        raise ConfigError(f"{folder} doesn't speak (dep_q is 0): speech to text is `load_stt`")
    if not config.user_q:
        raise ConfigError(
            f"{folder / 'config.json'}: dep_q = n_q = {config.n_q}: this model only speaks, nobody "
            "is heard. Text to speech is `load_tts`; a PersonaPlex has model_type personaplex"
        )
