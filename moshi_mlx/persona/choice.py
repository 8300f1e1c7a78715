"""Which voice is meant: a name of the model's, a voice's file, or a recording of somebody."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..codec.interface import Codec
from ..errors import MoshiError
from .recording import codes_of_recording
from .voice_files import ENDINGS, find_voice, voices_in

VoiceInput = Path | np.ndarray | None  # as `Lm.persona_prompt` takes a voice


def is_recording(voice: str | Path) -> bool:
    """Whether it is a file of sound: somebody's voice, which nobody gave to the model's makers."""
    path = Path(voice).expanduser()
    return path.suffix.lower() not in ENDINGS and path.is_file()


@contextmanager
def chosen_voice(
    voice: str | Path | np.ndarray | None, folder: Path, codec: Codec, count: int, model: str
) -> Iterator[VoiceInput]:
    """A voice's file, for as long as it is needed, or `count` codebooks of a recording.

    folder: of the model, called `model`. Raises MoshiError, AudioError, WeightsError.
    """
    if voice is None or isinstance(voice, np.ndarray):
        yield voice
        return
    path = Path(voice).expanduser()
    if path.is_file():
        yield codes_of_recording(path, codec, count) if is_recording(path) else path
        return
    if len(path.parts) > 1 or path.suffix:
        raise MoshiError(f"no voice at {path}: check the path, or take one of `moshi voices`")
    with find_voice(str(voice), voices_in(folder), model).unpacked() as unpacked:
        yield unpacked
