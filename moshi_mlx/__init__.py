"""Moshi on MLX: load a model, open a session, step through a conversation frame by frame.

    moshi = moshi_mlx.load("kyutai/moshiko-mlx-q4")
    with moshi.session(seed=0) as session:
        reply = session.step(pcm)  # float32 [1920] in [-1, 1]

Names are imported when they are used, so that `import moshi_mlx` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import audio

    __version__: str
    from .errors import MoshiError
    from .helium import load_helium
    from .mimi import load_mimi
    from .moshi import EarlyReply, Moshi, Reply, Session, load
    from .session.answering import Answer
    from .stt import load_stt
    from .text.word import Word
    from .translation import load_translator
    from .tts import load_tts
    from .weights.loading import load_lm, save_lm

_WHERE = {
    "Answer": ".session.answering",
    "EarlyReply": ".moshi",
    "Moshi": ".moshi",
    "MoshiError": ".errors",
    "Reply": ".moshi",
    "Session": ".moshi",
    "Word": ".text.word",
    "load": ".moshi",
    "load_helium": ".helium",
    "load_lm": ".weights.loading",
    "load_mimi": ".mimi",
    "load_stt": ".stt",
    "load_translator": ".translation",
    "load_tts": ".tts",
    "save_lm": ".weights.loading",
}
__all__ = [
    "Answer",
    "EarlyReply",
    "Moshi",
    "MoshiError",
    "Reply",
    "Session",
    "Word",
    "__version__",
    "audio",
    "load",
    "load_helium",
    "load_lm",
    "load_mimi",
    "load_stt",
    "load_translator",
    "load_tts",
    "save_lm",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        globals()[name] = _version()
    elif name == "audio":
        return import_module(".audio", __name__)
    elif name in _WHERE:
        globals()[name] = getattr(import_module(_WHERE[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def _version() -> str:
    """Of the distribution; "unknown" in a checkout that isn't installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("moshi-local")
    except PackageNotFoundError:
        return "unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
