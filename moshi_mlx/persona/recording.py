"""A voice from a recording: Mimi's codes of some seconds of somebody's speech.

As NVIDIA's server makes them of a `.wav`: loudness -24 LUFS (ITU-R BS.1770, by pyloudnorm), whole
frames, from a fresh encoder. Source: NVIDIA/personaplex, `moshi/models/lm.py`, `load_voice_prompt`.
"""

import warnings
from pathlib import Path

import numpy as np

from ..audio.file import read_mono
from ..clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from ..codec.interface import Codec
from ..errors import AudioError, MoshiError, with_extra

LOUDNESS_LUFS = -24.0
SHORTEST_S, LONGEST_S = 1.0, 30.0  # NVIDIA's voices have 4 s; every second is of the context
QUIETEST_LUFS = -70.0  # below it nothing counts, by the standard


def codes_of_recording(path: Path, codec: Codec, count: int) -> np.ndarray:
    """int32 [count, frames]: the first `count` codebooks of a recording of any format.

    Raises AudioError for a file that is none, is too short, too long or silent, and MoshiError
    where pyloudnorm is missing.
    """
    pcm = at_loudness(read_mono(path), path)
    frames = -(-len(pcm) // FRAME_SAMPLES)
    return codec.encode(np.pad(pcm, (0, frames * FRAME_SAMPLES - len(pcm))))[:count]


def at_loudness(pcm: np.ndarray, path: Path) -> np.ndarray:
    """The recording float32 [n] at 24 kHz as loud as the model's own voices."""
    try:
        import pyloudnorm
    except ImportError:
        raise MoshiError(
            f"a voice from a recording needs pyloudnorm: {with_extra('voice')}; or take one of the "
            "model's own (`moshi voices`)"
        ) from None
    seconds = len(pcm) / SAMPLE_RATE_HZ
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise AudioError(
            f"{path} lasts {seconds:.1f} s: a voice is {SHORTEST_S:g} to {LONGEST_S:g} s of one "
            "person's speech, 4 to 10 s are best; cut it"
        )
    loudness = pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(pcm.astype(np.float64))
    if not loudness > QUIETEST_LUFS:
        raise AudioError(f"{path} is silent: give a recording of somebody's speech")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peaks beyond 1 are no harm: nobody plays this
        louder = pyloudnorm.normalize.loudness(pcm.astype(np.float64), loudness, LOUDNESS_LUFS)
    return louder.astype(np.float32)
