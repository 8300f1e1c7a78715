"""What goes in and out of a conversation, frame by frame of 80 ms."""

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from ..audio.finite import finite
from ..clock import FRAME_SAMPLES
from ..codec.cpu_threads import Pcm
from ..errors import MoshiError


@dataclass(frozen=True)
class Reply:
    """One frame of Moshi's side.

    pcm: float32 [1920] at 24 kHz, marked (see `Moshi.session`), and codes: int32 [dep_q], both None
    until the first complete frame; text: what this frame's token says ("" for padding, a leading
    space kept).
    """

    pcm: np.ndarray | None
    text: str
    text_token: int
    codes: np.ndarray | None


@dataclass(frozen=True)
class EarlyReply:
    """A Reply whose sound comes later: `sound.result()` is its `pcm`, or raises what went wrong."""

    text: str
    text_token: int
    codes: np.ndarray | None
    sound: Future[Pcm]


def check_frame(pcm: np.ndarray) -> np.ndarray:
    """float32 [1920]; NaN and infinities become silence. Raises MoshiError for another shape."""
    frame = np.asarray(pcm)
    if frame.shape != (FRAME_SAMPLES,) or not np.issubdtype(frame.dtype, np.floating):
        raise MoshiError(
            f"a frame is float32 [{FRAME_SAMPLES}] (80 ms, mono, 24 kHz), "
            f"not {frame.dtype} {list(frame.shape)}"
        )
    return finite(frame.astype(np.float32))


def checked_following(pcm: np.ndarray | None) -> np.ndarray | None:
    """As `check_frame`; None stays None."""
    return None if pcm is None else check_frame(pcm)
