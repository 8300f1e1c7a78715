"""Voices of Kyutai's TTS: latents of ten seconds of speech, in a file of their own.

A file holds one tensor `speaker_wavs` [1, D, N] and says which model it was made for. Up to five
speakers stand one after the other in the source of cross attention, empty slots masked.
Source: PyTorch `moshi/models/tts.py`, make_condition_attributes; `moshi/conditioners/tensors.py`.
Shapes: D numbers of a latent, N latents of a voice, S speakers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SECONDS
from ..errors import MoshiError, WeightsError
from ..tensor_files.header import read_header

TENSOR = "speaker_wavs"
NO_VOICE = 125  # latents of a slot where no voice is given at all
SPEAKERS_MAX = 5  # slots of Kyutai's models
LONGEST = 10_000  # latents; Kyutai's have 125
Condition = tuple[np.ndarray, np.ndarray]


def read_voice(path: str | Path, dim: int, model_id: Mapping[str, Any]) -> np.ndarray:
    """A voice as float32 [N, D].

    Raises WeightsError for a file that is no voice, and for a voice of another model.
    """
    path = Path(path)
    read_header(path)  # raises for a damaged file
    tensors, said = mx.load(str(path), format="safetensors", return_metadata=True)
    assert isinstance(tensors, dict) and isinstance(said, dict)
    voice = tensors.get(TENSOR)
    if voice is None or len(tensors) != 1 or voice.ndim != 3 or voice.shape[0] != 1:
        raise WeightsError(f"{path} is no voice: it must hold one tensor {TENSOR} [1, D, N]")
    if voice.shape[1] != dim or not 1 <= voice.shape[2] <= LONGEST:
        raise WeightsError(
            f"{path} is a voice of another model: {list(voice.shape)}, not [1, {dim}, N]"
        )
    for key in ("sig", "epoch"):
        if key in said and key in model_id and said[key] != str(model_id[key]):
            raise WeightsError(
                f"{path} is a voice of another model: {key} {said[key]!r}, "
                f"this one has {str(model_id[key])!r}"
            )
    latents = np.array(voice[0].T).astype(np.float32)
    if not np.isfinite(latents).all():
        raise WeightsError(f"{path} holds numbers that are not finite; fetch it again")
    return latents


def seconds_of(path: Path) -> float | None:
    """Seconds of speech in a file of a voice, by its header; None for a file of something else.

    Raises WeightsError for a damaged one.
    """
    tensors = read_header(path).tensors
    voice = tensors.get(TENSOR)
    if voice is None or len(tensors) != 1 or len(voice.shape) != 3:
        return None
    return voice.shape[2] * FRAME_SECONDS


def speakers_condition(
    voices: Sequence[np.ndarray], dim: int, slots: int = SPEAKERS_MAX
) -> Condition:
    """Voices [N, D] each -> the condition [S * N, D] and the mask [S * N] of what is there.

    No voice: nothing is there. Raises MoshiError for more voices than slots, or of other lengths.
    """
    if len(voices) > slots:
        raise MoshiError(f"{len(voices)} voices given, this model takes {slots} at most")
    lengths = {len(voice) for voice in voices} or {NO_VOICE}
    if len(lengths) > 1:
        raise MoshiError("these voices are of different lengths; take ones of one kind")
    length = lengths.pop()
    latents = np.zeros((slots * length, dim), np.float32)
    mask = np.zeros(slots * length, np.float32)
    for slot, voice in enumerate(voices):
        at = slice(slot * length, (slot + 1) * length)
        latents[at], mask[at] = voice, 1
    return latents, mask
