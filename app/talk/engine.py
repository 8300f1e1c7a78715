"""The model behind a conversation, as the session sees it: numpy in, numpy and str out.

`make_engine` runs on the session's model thread and loads and warms there, since MLX arrays belong
to the thread that made them. Everything here is called on that thread alone.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..events import Settings


@dataclass(frozen=True, eq=False)
class EngineReply:
    """What the model says to one frame of the user's.

    `later`: the sound is being decoded on another thread, in order, and `pcm` is None; this tells
    it, or what went wrong. None: `pcm` is all there is.
    """

    pcm: np.ndarray | None  # float32 [1920], None while the delays fill
    text: str = ""  # a word piece with its leading space; "" for padding
    text_token: int = 0
    later: Future[np.ndarray | None] | None = None


class TalkFile(Protocol):
    """A talk as it was at one moment, in host memory: any thread may write it."""

    def write(self, path: Path, go_on: Callable[[], bool]) -> None:
        """Whole or not at all. Raises MoshiError, also once `go_on` says no."""
        ...


class EngineTalk(Protocol):
    """One conversation: its state, its seed.

    notes: lines that the user should read at its start; prompt_until: how many frames of it the
    model remembers the whole of its prompt, None for ever.
    """

    seed: int
    notes: tuple[str, ...]
    prompt_until: int | None

    @property
    def encodes_ahead(self) -> bool:
        """Whether `step` makes use of `following`."""
        ...

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        """frame float32 [1920] -> the reply; `hold` keeps Moshi silent in this frame.

        May wait for sound of earlier frames, so that no more than a few are to come.
        `following`: the frame of the next call, if it is there already (the model is behind).
        """
        ...

    def keep(self, note: str) -> TalkFile:
        """This talk between two frames, for `Settings.resume`; it goes on untouched.

        note: goes into the file. Not while a frame given as `following` is still to come. Raises
        MoshiError.
        """
        ...

    def close(self) -> None:
        """Sound that is still to come comes first, with the callbacks of its futures."""
        ...


class Engine(Protocol):
    """A loaded, warm model; may hold many conversations, one after the other."""

    name: str
    recipe: str
    mark: str  # in its sound: "public key", "private key", "none"
    revision: str  # of the model; "" where it isn't known
    adapter: str  # what the model's is called; "" for none
    adapters: tuple[str, ...]  # others beside it, for talks that ask for one
    personas: bool  # it can be told who it is
    voices: tuple[str, ...]  # its own, for a persona

    def begin(self, settings: Settings) -> EngineTalk:
        """A conversation with clean state, or with that of `settings.resume`. MoshiError for
        settings it can't honour."""
        ...

    def keep_warm(self) -> None:
        """Twice a second while there is nothing to do: the next frame must not begin cold."""
        ...

    def memory_bytes(self) -> int: ...


MakeEngine = Callable[[], Engine]
