"""Sound files: `read` any recording as 24 kHz mono, `write` 16 bit wav or flac.

pcm = moshi_mlx.audio.read("question.mp3")  # float32 [samples] at 24 kHz
moshi_mlx.audio.write("answer.wav", moshi.answer(pcm).pcm)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .file import read_mono as read
    from .writing import write

_WHERE = {"read": (".file", "read_mono"), "write": (".writing", "write")}
__all__ = ["read", "write"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _WHERE[name]
    globals()[name] = getattr(import_module(module, __name__), function)
    return globals()[name]
