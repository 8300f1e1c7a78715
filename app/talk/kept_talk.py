"""A talk in a file, as the program asks for it: which model to load, and how the talk was held.

The library's file says what the talk is; its note, written here, says how to load the same model
again. Whoever made a file may have lied in it: nothing is believed but what is checked here, and
what the library checks when it reads the rest.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.config.json_file import parse_json_object
from moshi_mlx.config.lm_config import SamplingConfig
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.lm.state.other_files import OtherFileError
from moshi_mlx.session.kept import session_facts

from ..events import Settings

ENDING = ".talk.safetensors"
DTYPES = ("float32", "float16", "bfloat16")
CODECS = ("mlx", "rust")
LONGEST = 10_000  # characters of anything in a note
GIVE = "give a file that key s of `moshi chat` or the page wrote"
# what else may be taken for a talk -> what it is, and what takes it
NO_TALKS = {
    "prompt": ("a prompt, heard before a talk", "--persona makes and keeps them by itself"),
    "talk": ("a state of the language model alone, without its sound", GIVE),
    "adapter": ("an adapter", "--lora takes it"),
    "voice": ("a voice", "--voice takes it"),
    "weights": ("a file of a model's weights", "--model takes the folder that it is in"),
    "other": ("something else", GIVE),
}
SAMPLING = tuple(SamplingConfig.__dataclass_fields__)


@dataclass(frozen=True)
class AskedModel:
    """How a model was asked for; "" where an option wasn't given. Files of this machine by their
    whole path: a talk may be resumed from another folder."""

    model: str = ""
    revision: str = ""
    mimi: str = ""
    tokenizer: str = ""
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeptTalk:
    """What `moshi chat --resume` needs of a file before the model is loaded.

    settings: those that the talk is held with, `resume` among them; frames: how long it was, its
    prompt left out.
    """

    path: Path
    source: AskedModel
    settings: Settings
    codec: str
    dtype: str
    kv_bits: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames * FRAME_SECONDS


def note_of(source: AskedModel, settings: Settings) -> str:
    """What a file gets for `kept_talk`."""
    who = {"persona": settings.persona, "voice": settings.voice, "adapter": settings.adapter}
    told = {**asdict(source), **who, "keep_prompt": settings.keep_prompt}
    return json.dumps(told)


def kept_talk(path: Path) -> KeptTalk:
    """By the file's header alone. Raises MoshiError for a file that is none, or is damaged."""
    try:
        facts = session_facts(path)
    except OtherFileError as error:
        what, instead = NO_TALKS.get(error.kind, (error.what, GIVE))
        raise MoshiError(f"{path} is {what}, not a saved talk; {instead}") from None
    try:
        return _checked(path, facts)
    except (ConfigError, TypeError, ValueError):
        raise MoshiError(
            f"{path} can't be gone on from: what it says of itself is damaged; make it anew"
        ) from None


def _checked(path: Path, facts: Mapping[str, Any]) -> KeptTalk:
    """Raises ValueError, TypeError or ConfigError for what can't be."""
    note = facts.get("note") or "{}"
    told = _Texts(parse_json_object(_text(note).encode(), "note"))
    source = AskedModel(
        *(told.text(name) for name in ("model", "revision", "mimi", "tokenizer")),
        lora=told.texts("lora"),
    )
    sampling = facts["sampling"] if isinstance(facts.get("sampling"), dict) else {}
    SamplingConfig(**sampling)  # its checks
    settings = Settings(
        seed=_whole(facts.get("seed")),
        **{name: sampling[name] for name in SAMPLING if name in sampling},
        persona=told.asked("persona"),
        voice=told.asked("voice"),
        adapter=told.asked("adapter"),
        keep_prompt=told.raw.get("keep_prompt") is True,
        resume=path,
    )
    if settings.adapter not in (None, facts.get("adapter")):
        raise ValueError(settings.adapter)
    frames = _whole(facts.get("step")) - _whole(facts.get("prompt_frames"))
    return KeptTalk(
        path,
        source,
        settings,
        codec=_one_of(facts.get("codec"), CODECS),
        dtype=_one_of(facts.get("dtype"), DTYPES),
        kv_bits=_one_of(facts.get("kv_bits"), (16, 8)),
        frames=max(0, frames),
    )


@dataclass(frozen=True)
class _Texts:
    """Texts of a note. All methods raise ValueError."""

    raw: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return _text(self.raw.get(name, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.raw.get(name, [])
        if not isinstance(found, list) or len(found) > 100:
            raise ValueError(name)
        return tuple(_text(one) for one in found)

    def asked(self, name: str) -> str | None:
        return None if self.raw.get(name) is None else self.text(name)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or "\0" in value:
        raise ValueError(value)
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(value)
    return value


def _one_of(value: Any, known: tuple) -> Any:
    if isinstance(value, bool) or value not in known:
        raise ValueError(value)
    return value


def anew(settings: Settings) -> Settings:
    """Those of the next conversation, with the same person: another seed, nothing to go on from."""
    return replace(settings, seed=None, resume=None)
