"""A frame's path whose sound carries the mark: the last thing before the world gets it.

The model never hears it: what comes back to it are its codes.
"""

from concurrent.futures import Future, wait
from functools import partial

import numpy as np

from ..codec.cpu_threads import Ahead, Pcm
from ..lm.generator import Forced, Step
from ..provenance import Marker
from .path import FramePath


class MarkedPath:
    """See `path.FramePath`. Frames are marked in order, on the thread that has their sound."""

    def __init__(self, path: FramePath, marker: Marker) -> None:
        self._path, self._marker = path, marker
        self._last: Future[Pcm] | None = None  # the latest that may come later

    @property
    def encodes_ahead(self) -> bool:
        return self._path.encodes_ahead

    @property
    def decodes_behind(self) -> bool:
        return self._path.decodes_behind

    def warm_up(self) -> None:
        self._path.warm_up()

    def step(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> tuple[Step, Pcm]:
        step, sound = self._path.step(frame, forced, following)
        if self._last is not None:  # decoded by now; whether it is marked is another thread's word
            wait([self._last])
            self._last = None
        return step, marked(self._marker, sound)

    def step_early(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> "tuple[Step, Future[Pcm]]":
        step, plain = self._path.step_early(frame, forced, following)
        later: Future[Pcm] = Future()
        plain.add_done_callback(partial(_mark_later, self._marker, later))
        self._last = later
        return step, later

    def end_prompt(self, codes: np.ndarray) -> Step:
        return self._path.end_prompt(codes)

    def rest(self) -> Ahead:
        ahead = self._path.rest()
        if self._last is not None:  # marked by then, not only decoded
            wait([self._last])
        return ahead

    def restore(self, ahead: Ahead) -> None:
        self._path.restore(ahead)

    def close(self) -> None:
        self._path.close()


def marked(marker: Marker, sound: Pcm) -> Pcm:
    return None if sound is None else marker.frame(sound)


def _mark_later(marker: Marker, later: "Future[Pcm]", plain: "Future[Pcm]") -> None:
    """Where the plain sound is there; before the next one's decoding begins."""
    if plain.cancelled():
        later.cancel()
    elif (error := plain.exception()) is not None:
        later.set_exception(error)
    else:
        later.set_result(marked(marker, plain.result()))
