"""A codec on the CPU beside the language model: encoding runs ahead, decoding behind, in threads.

Both let go of the GIL in rustymimi. A stream's encoder and its decoder share nothing, so the two
may run at the same time; each has its frames in order.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..errors import MoshiError
from .interface import CodecStream

DECODING_MAX = 2  # frames that may wait for their sound or be at it

Pcm = np.ndarray | None
Ahead = tuple[np.ndarray, np.ndarray] | None  # a frame of the user, and its codes


class EncodeAhead:
    """Encodes the following frame while the language model has this one."""

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self._next: tuple[np.ndarray, Future[np.ndarray]] | None = None

    @property
    def announced(self) -> bool:
        return self._next is not None

    def peek(self) -> "Ahead":
        """The frame that was announced and its codes, waited for; None where none was."""
        return None if self._next is None else (self._next[0], self._next[1].result())

    def restore(self, frame: np.ndarray, codes: np.ndarray) -> None:
        """As if `frame` had been announced and encoded."""
        done = Future[np.ndarray]()
        done.set_result(codes)
        self._next = frame, done

    def announce(self, stream: CodecStream, frame: np.ndarray) -> None:
        """Begin with the codes of `frame` [1920]."""
        self._worker = self._worker or ThreadPoolExecutor(1, "moshi-encode")
        self._next = frame, self._worker.submit(stream.encode, frame)

    def take(self, frame: np.ndarray) -> np.ndarray:
        """The codes [K] of the frame that was announced. Raises MoshiError for another one."""
        assert self._next is not None
        (expected, future), self._next = self._next, None
        codes = future.result()  # also after a mistake: the stream is free again
        if not np.array_equal(frame, expected):
            raise MoshiError("this isn't the frame that was announced as `following`; pass that")
        return codes

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown()
        self._worker = self._next = None


class DecodeBehind:
    """Decodes frames while the language model has the ones after them."""

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self._pending: deque[Future[Pcm]] = deque()

    def begin(self, stream: CodecStream, codes: np.ndarray | None) -> "Future[Pcm]":
        """Sound [1920] of codes [K], None for None. Waits as long as two others are unfinished.

        Raises what an earlier frame raised: the frames after it are lost, as their futures tell.
        """
        self.wait(DECODING_MAX - 1)
        self._worker = self._worker or ThreadPoolExecutor(1, "moshi-decode")
        before = self._pending[-1] if self._pending else None
        self._pending.append(self._worker.submit(_decoded, before, stream.decode, codes))
        return self._pending[-1]

    def wait(self, at_most: int = 0) -> None:
        """Until no more than so many frames are unfinished. Raises what one of them raised."""
        while self._pending and (len(self._pending) > at_most or self._pending[0].done()):
            self._pending[0].result()  # one that failed stays, and is raised each time
            self._pending.popleft()

    def close(self) -> None:
        """What was begun is finished first."""
        if self._worker is not None:
            self._worker.shutdown()
        self._worker = None


def _decoded(
    before: "Future[Pcm] | None",
    decode: Callable[[np.ndarray], np.ndarray],
    codes: np.ndarray | None,
) -> Pcm:
    if before is not None:
        before.result()  # done by now; after a frame that failed there is no going on
    return None if codes is None else decode(codes)
