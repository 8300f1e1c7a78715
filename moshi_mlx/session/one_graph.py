"""A codec in MLX: its graph and the language model's are one, with one evaluation a frame."""

from concurrent.futures import Future

import mlx.core as mx
import numpy as np

from ..codec.cpu_threads import Ahead, Pcm
from ..codec.interface import LazyStream
from ..lm.generator import Forced, LmGenerator, Step


class OneGraph:
    """See path.FramePath. The encoder of the next frame waits for the device as this one does."""

    encodes_ahead = decodes_behind = False

    def __init__(self, generator: LmGenerator, stream: LazyStream, user_q: int) -> None:
        self._generator, self._stream, self._user_q = generator, stream, user_q

    def warm_up(self) -> None:
        self._generator.warm_up(user_later=self._user_q > 0)

    def step(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> tuple[Step, Pcm]:
        submitted = self._generator.submit(self._heard(frame), forced)
        codes = submitted.codes()
        pcm = None if codes is None else self._stream.decode_lazy(codes)
        there = [*self._stream.arrays, *([] if pcm is None else [pcm])]
        step = self._generator.finish(submitted, there)
        return step, None if pcm is None else np.array(pcm)

    def _heard(self, frame: np.ndarray) -> mx.array | np.ndarray:
        """The user's codes, lazy; the model ignores those of its first frame."""
        if not self._user_q:
            return np.zeros(0, np.int32)
        if not self._generator.steps:
            return mx.zeros(self._user_q, mx.int32)
        return self._stream.encode_lazy(mx.array(frame))[: self._user_q]

    def step_early(
        self, frame: np.ndarray, forced: Forced | None, following: np.ndarray | None = None
    ) -> "tuple[Step, Future[Pcm]]":
        step, pcm = self.step(frame, forced)
        there = Future[Pcm]()
        there.set_result(pcm)
        return step, there

    def end_prompt(self, codes: np.ndarray) -> Step:
        lazy = mx.array(codes.astype(np.int32)) if self._user_q else codes  # as `_heard`: one graph
        return self._generator.finish(self._generator.submit(lazy))

    def rest(self) -> Ahead:
        return None

    def restore(self, ahead: Ahead) -> None:
        pass

    def close(self) -> None:
        pass
