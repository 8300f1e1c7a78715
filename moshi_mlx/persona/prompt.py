"""PersonaPlex' prompt: a voice, a gap, a text, a gap, frame by frame and position by position.

Every call of NVIDIA's `step` is a frame; what is given to the first never reaches the model, and
code k of a frame enters delay_k positions later. While a prompt is heard, the user's codes are
those of a tone. Source: NVIDIA/personaplex, `moshi/models/lm.py`, `step_system_prompts`.
Shapes: K codebooks of a speaker, P frames of a prompt, N of them of a voice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MoshiError
from .voice import Voice

# A silent frame of Moshi's, and the tone (440 Hz), as Mimi encodes them with 8 codebooks.
SILENCE = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)
SINE = (430, 1268, 381, 1611, 1095, 1495, 56, 472)
GAP_FRAMES = 6  # half a second, after the voice and after the text
TAG = "<system>"
UNKNOWN = -2


def tagged(text: str) -> str:
    """A persona's text as the model was trained with it: between two tags; "" stays as it is."""
    text = text.strip()
    if not text or (text.startswith(TAG) and text.endswith(TAG) and len(text) >= 2 * len(TAG)):
        return text
    return f"{TAG} {text} {TAG}"


@dataclass(frozen=True)
class PersonaFrames:
    """text: int [P]; own: int [K, P], UNKNOWN where only the embeddings of a voice are known."""

    text: np.ndarray
    own: np.ndarray


def persona_frames(
    text_ids: Sequence[int], voice: np.ndarray, silence: Sequence[int], pad: int
) -> PersonaFrames:
    """The frames of a prompt; voice: int [K, N], N may be 0."""
    N, count = voice.shape[1], len(text_ids)
    text = [pad] * (N + GAP_FRAMES) + [int(i) for i in text_ids] + [pad] * GAP_FRAMES
    quiet = np.tile(np.array(silence)[:, None], 2 * GAP_FRAMES + count)
    return PersonaFrames(np.array(text), np.concatenate([voice, quiet], axis=1))


def persona_tokens(frames: PersonaFrames, sine: Sequence[int], delays: Sequence[int]) -> np.ndarray:
    """Their tokens at positions 0 to P - 1, and what is known of those after it.

    int32 [P + max_delay, 1 + 2 K], text first, UNKNOWN where nothing is said.
    """
    K, P = frames.own.shape
    streams = [frames.text, *frames.own, *(np.full(P, code) for code in sine)]
    tokens = np.full((P + max(delays), 1 + K + len(sine)), UNKNOWN, np.int32)
    for stream, (values, delay) in enumerate(zip(streams, delays, strict=True)):
        tokens[delay : delay + P, stream] = values
    return tokens


def with_voice(tokens: np.ndarray, voice: Voice, delays: Sequence[int]) -> np.ndarray:
    """The tokens of a prompt whose voice is embeddings: what its own delay line still holds.

    Position N - 1 whole, of those after it the streams whose delay reaches so far.
    """
    N, size = voice.frames, voice.line.shape[1]
    tokens = tokens.copy()
    for later in range(1 + max(delays)):
        held, position = np.array(delays) >= later, N - 1 + later
        tokens[position, held] = voice.line[held, position % size]
    return tokens


def checked_ids(text_ids: Sequence[int] | np.ndarray, text_card: int) -> list[int]:
    """Raises MoshiError for what the text tokenizer never gives."""
    ids = np.asarray(text_ids)
    good = ids.ndim == 1 and (not ids.size or np.issubdtype(ids.dtype, np.integer))
    if not good or (ids.size and not 0 <= ids.min() <= ids.max() < text_card):
        raise MoshiError(
            f"a persona's text must be ids from 0 to {text_card - 1}; encode it with the model's "
            "tokenizer first"
        )
    return [int(i) for i in ids]


def checked_codes(codes: Sequence[int] | np.ndarray, K: int, card: int, what: str) -> list[int]:
    """Raises MoshiError for anything but K codes."""
    array = np.asarray(codes)
    if array.shape != (K,) or not np.issubdtype(array.dtype, np.integer):
        raise MoshiError(f"{what} must be {K} codes, not {list(array.shape)}")
    if array.min() < 0 or array.max() >= card:
        raise MoshiError(
            f"{what} must be codes below {card}; give those that this model's Mimi makes of it"
        )
    return array.tolist()
