"""A codec that gives numpy: one part of a frame after the other, or on threads beside the model."""

from concurrent.futures import Future
from typing import Protocol

import numpy as np

from ..codec.cpu_threads import Ahead, DecodeBehind, EncodeAhead, Pcm
from ..codec.interface import CodecStream
from ..lm.generator import Forced, Step


class Stepper(Protocol):
    """What this path needs of `LmGenerator`."""

    @property
    def steps(self) -> int: ...

    def step(self, user_codes: np.ndarray, forced: Forced | None = None) -> Step: ...

    def warm_up(self) -> None: ...


class CodecBeside:
    """See path.FramePath. The encoder may run a frame ahead, the decoder two frames behind."""

    encodes_ahead = decodes_behind = True

    def __init__(self, generator: Stepper, stream: CodecStream, user_q: int) -> None:
        self._generator, self._stream, self._user_q = generator, stream, user_q
        self._ahead, self._behind = EncodeAhead(), DecodeBehind()

    def warm_up(self) -> None:
        self._generator.warm_up()

    def step(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> tuple[Step, Pcm]:
        step = self._said(frame, forced, following)
        self._behind.wait()
        return step, None if step.codes is None else self._stream.decode(step.codes)

    def step_early(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> "tuple[Step, Future[Pcm]]":
        step = self._said(frame, forced, following)
        return step, self._behind.begin(self._stream, step.codes)

    def _said(self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None) -> Step:
        """Encoder and language model; the model ignores the codes of its first frame."""
        codes = np.zeros(self._user_q, np.int32)
        if self._generator.steps and self._user_q:
            ahead = self._ahead
            codes = ahead.take(frame) if ahead.announced else self._stream.encode(frame)
        if following is not None and self._user_q:
            self._ahead.announce(self._stream, following)
        return self._generator.step(codes[: self._user_q], forced)

    def end_prompt(self, codes: np.ndarray) -> Step:
        return self._generator.step(codes)

    def rest(self) -> Ahead:
        self._behind.wait()
        return self._ahead.peek()

    def restore(self, ahead: Ahead) -> None:
        if ahead is not None:
            self._ahead.restore(*ahead)

    def close(self) -> None:
        self._ahead.close()
        self._behind.close()
