"""Which echo canceller a talk gets: `--echo off`, `linear`, `webrtc`, `both`, or `auto`."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from moshi_mlx.errors import MoshiError

from .canceller import EchoCanceller

MODES = ("auto", "linear", "webrtc", "both", "off")
Clean = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Canceller(Protocol):
    """Takes the echo of the far end out of the near end: float32 [n] each -> [n]."""

    def process(self, near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray: ...


class Chain:
    """The linear filter first, then WebRTC on what is left."""

    def __init__(self, first: Canceller, second: Canceller) -> None:
        self._first, self._second = first, second

    def process(self, near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray:
        return self._second.process(self._first.process(near_end, far_end), far_end)


def canceller(mode: str) -> Canceller:
    """A new one for "linear", "webrtc" or "both". Raises MoshiError without the extra."""
    if mode == "linear":
        return EchoCanceller()
    from .webrtc import WebrtcCanceller

    webrtc = WebrtcCanceller()
    return webrtc if mode == "webrtc" else Chain(EchoCanceller(), webrtc)


def make_clean(mode: str, headphones: Callable[[], bool]) -> Clean | None:
    """What `Session.begin` takes as `clean`, None for off; a new one for each conversation.

    `auto` is linear, and off while `headphones()`: devices change during a talk.
    """
    if mode not in MODES:
        raise MoshiError(f"--echo {mode}: choose one of {', '.join(MODES)}")
    if mode == "off":
        return None
    chosen = canceller("linear" if mode == "auto" else mode)

    def clean(near_end: np.ndarray, far_end: np.ndarray) -> np.ndarray:
        if mode == "auto" and headphones():
            return near_end
        return chosen.process(near_end, far_end)

    return clean
