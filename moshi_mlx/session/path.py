"""A frame's way through codec and language model: where each part runs, and who waits for whom."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import numpy as np

from ..codec.cpu_threads import Ahead, Pcm
from ..codec.interface import CodecStream
from ..lm.generator import Forced, LmGenerator, Step
from .codec_beside import CodecBeside
from .one_graph import OneGraph


class FramePath(Protocol):
    """One conversation's frames, in order."""

    @property
    def encodes_ahead(self) -> bool:
        """Whether `following` is made use of, the frame that comes next."""
        ...

    @property
    def decodes_behind(self) -> bool:
        """Whether `step_early` returns before the sound is there."""
        ...

    def warm_up(self) -> None:
        """Trace what the language model will need on this path."""
        ...

    def step(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> tuple[Step, Pcm]:
        """80 ms of the user, float32 [1920] -> the model's step and its sound [1920]."""
        ...

    def step_early(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> "tuple[Step, Future[Pcm]]":
        """As `step`; the sound may come later, which its future tells."""
        ...

    def end_prompt(self, codes: np.ndarray) -> Step:
        """The step that ends a prompt, without sound; codes [user_q]: for what it left open."""
        ...

    def rest(self) -> Ahead:
        """Wait for what was begun; the frame that was encoded ahead and its codes, or None."""
        ...

    def restore(self, ahead: Ahead) -> None:
        """Go on with a frame that another path had encoded ahead."""
        ...

    def close(self) -> None:
        """Wait for what was begun. The path isn't used any more."""
        ...


MakePath = Callable[[LmGenerator, CodecStream, int], FramePath]


def path_for(generator: LmGenerator, stream: CodecStream, user_q: int) -> FramePath:
    """The fastest path of a codec's stream; `user_q`: how many of its codes the model hears."""
    if stream.graph is not None:
        return OneGraph(generator, stream.graph, user_q)
    return CodecBeside(generator, stream, user_q)


def shares_evaluation(stream: CodecStream) -> bool:
    """Whether a codec's stream computes in the language model's graph: one wait a frame."""
    return stream.graph is not None
