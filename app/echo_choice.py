"""Which echo canceller a talk gets: `--echo off`, `linear`, or `auto` by the kind of output."""

from collections.abc import Callable

import numpy as np

from moshi_mlx.errors import MoshiError

from .echo import EchoCanceller

MODES = ("auto", "linear", "off")


def make_clean(
    mode: str, headphones: Callable[[], bool]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """What `Session.begin` takes as `clean`, None for off; a new one for each conversation.

    `headphones()` says whether the output is on the ears now: devices change during a talk.
    """
    if mode not in MODES:
        raise MoshiError(f"--echo {mode}: choose one of {', '.join(MODES)}")
    if mode == "off":
        return None
    canceller = EchoCanceller()

    def clean(mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        if mode == "auto" and headphones():
            return mic
        return canceller.process(mic, played)

    return clean
