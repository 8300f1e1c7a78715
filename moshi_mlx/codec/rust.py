"""rustymimi as a codec: numpy in, numpy out, no end, no panics.

rustymimi 0.4.1 dies after `max_seq_len / 2` frames and can't be reset, so each direction of a
stream hands over to a spare instance that has heard the last 100 s (longer than anything the
transformers remember) on a thread of its own; rustymimi releases the GIL.
"""

import importlib.util
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SAMPLES
from ..errors import MoshiError, WeightsError
from .interface import CodecState, checked_codes, checked_frame, checked_pcm

BINS = 2048  # entries of each of Kyutai's codebooks
FRAMES_MAX = 4096  # of one rustymimi instance
# What one instance holds with 8 codebooks, and each frame of its life, measured on Linux.
INSTANCE_BYTES, FRAME_BYTES = 358_000_000, 70_000
OVERLAP_FRAMES = 1250  # 100 s: 8 layers of 10 s each see 80 s
BACKLOG_MAX = 64  # frames the spare may lag behind before the stream waits for it


def rust_available() -> bool:
    """Whether rustymimi is installed (it has no wheel for Python 3.14)."""
    return importlib.util.find_spec("rustymimi") is not None


def talk_bytes(frames: int) -> int:
    """What a conversation's encoder and decoder have held at most by that frame; MLX counts none of
    it. Each has a spare beside it for the last frames of its life."""
    held = INSTANCE_BYTES + FRAME_BYTES * min(frames, FRAMES_MAX)
    of_spare = min(frames - (FRAMES_MAX - OVERLAP_FRAMES), OVERLAP_FRAMES)
    if of_spare > 0:
        held += INSTANCE_BYTES + FRAME_BYTES * of_spare
    return 2 * held


class RustCodec:
    """rustymimi: Kyutai's sizes only, on the CPU, one thread a direction.

    `frames_max` is the life of one instance, `overlap_frames` what its successor hears of it.
    Raises MoshiError where rustymimi isn't installed, WeightsError when it can't read `path`.
    """

    frame_samples = FRAME_SAMPLES
    bins = BINS

    def __init__(
        self,
        path: str | Path,
        num_codebooks: int = 8,
        frames_max: int = FRAMES_MAX,
        overlap_frames: int = OVERLAP_FRAMES,
    ) -> None:
        if not rust_available():
            raise MoshiError(
                "rustymimi isn't installed (there is none for Python 3.14); use the codec mlx"
            )
        if num_codebooks < 1:
            raise MoshiError(f"num_codebooks is {num_codebooks}; it must be 1 or more")
        if not 0 < overlap_frames <= frames_max // 2:  # one spare at a time
            raise MoshiError(
                f"overlap_frames is {overlap_frames}; it must be from 1 to {frames_max // 2}, "
                "half of frames_max"
            )
        self.path, self.num_codebooks = Path(path), num_codebooks
        self._frames_max, self._overlap_frames = frames_max, overlap_frames
        self._first: Any = self._instance()  # the next stream's encoder; also tests the file

    def __repr__(self) -> str:
        return f"<Mimi in rustymimi: {self.num_codebooks} codebooks>"

    def _instance(self) -> Any:
        import rustymimi

        tokenizer: Any = rustymimi.Tokenizer  # its stub knows no arguments
        try:
            return tokenizer(
                str(self.path), num_codebooks=self.num_codebooks, max_seq_len=2 * self._frames_max
            )
        except BaseException as error:  # its panics are no Exceptions
            raise _mendable(error, f"rustymimi can't load {self.path}", WeightsError) from None

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        """float [samples] -> int32 [num_codebooks, frames], the last frame zero-padded."""
        pcm = checked_pcm(pcm)
        frames = np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
        encode = self._direction("encode_step")
        codes = [encode(frame[None, None])[0] for frame in frames]
        empty = np.zeros((self.num_codebooks, 0))
        return np.concatenate([empty, *codes], axis=1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int [K, frames] -> float32 [frames * 1920]."""
        codes = checked_codes(codes, self.num_codebooks, BINS)
        stream = self.stream()
        return np.concatenate([np.zeros(0, np.float32), *map(stream.decode, codes.T)])

    def stream(self) -> "RustStream":
        """A new conversation, independent of all others."""
        return RustStream(self)

    def resume(self, state: CodecState) -> "RustStream":
        """A conversation that goes on where another was: it hears and says the last 100 s again.

        Raises MoshiError for another codec's.
        """
        heard, said = state.arrays.get("heard"), state.arrays.get("said")
        if state.kind != "rust" or heard is None or said is None:
            raise MoshiError(
                f"this talk's sound was kept by another codec ({state.kind}) than rustymimi; load "
                "the model with the codec of that talk"
            )
        frames = np.array(heard).reshape(-1, FRAME_SAMPLES)[-self._overlap_frames :]
        codes = np.array(said)[-self._overlap_frames :]
        stream = RustStream(self)
        with ThreadPoolExecutor(1, "rustymimi-again") as pool:
            decoded = pool.submit(lambda: [stream.decode(one) for one in codes])
            for frame in frames:
                stream.encode(frame)
            decoded.result()
        return stream

    def _direction(self, method: str) -> "_Endless":
        first, self._first = self._first, None
        live = first if first is not None else self._instance()
        return _Endless(self._instance, live, method, self._frames_max, self._overlap_frames)


class RustStream:
    """One conversation. Encoding and decoding may run on two threads, each on one at a time."""

    graph = None

    def __init__(self, codec: RustCodec) -> None:
        self._codec = codec
        self._encode = codec._direction("encode_step")
        self._decode = codec._direction("decode_step")

    def __repr__(self) -> str:
        return f"<RustStream of {self._codec!r}>"

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """float [1920] -> int32 [K]."""
        frame = checked_frame(frame, FRAME_SAMPLES)
        return self._encode(frame[None, None])[0, :, 0].astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int [K] -> float32 [1920]."""
        codes = checked_codes(np.asarray(codes)[..., None], self._codec.num_codebooks, BINS)
        return self._decode(codes[None].astype(np.uint32))[0, 0]

    def state(self) -> CodecState:
        """See CodecStream: sound and codes of the last 100 s, longer than anything remembered."""
        heard = [item[0, 0] for item in self._encode.history]
        said = [item[0, :, 0].astype(np.int32) for item in self._decode.history]
        K = len(said[0]) if said else 1
        arrays = {
            "heard": mx.array(np.array(heard, np.float32).reshape(-1, FRAME_SAMPLES)),
            "said": mx.array(np.array(said, np.int32).reshape(-1, K)),
        }
        mx.eval(list(arrays.values()))
        return CodecState("rust", arrays)


class _Endless:
    """One direction: a live instance, and towards its end a spare that hears what it hears."""

    def __init__(
        self,
        make: Callable[[], Any],
        live: Any,
        method: str,
        frames_max: int,
        overlap_frames: int,
    ) -> None:
        self._make, self._live, self._method = make, live, method
        self._frames_max, self._overlap_frames = frames_max, overlap_frames
        self._heard = 0  # frames, by the live instance
        self.history: deque[np.ndarray] = deque(maxlen=overlap_frames)  # what it was given
        self._worker: ThreadPoolExecutor | None = None
        self._spare: Future[Any] | None = None
        self._backlog: deque[Future[np.ndarray]] = deque()

    def __call__(self, item: np.ndarray) -> np.ndarray:
        """The result for one frame, [1, ...] in and out. Waits only for a spare far behind."""
        if self._heard == self._frames_max - self._overlap_frames:
            self._worker = self._worker or ThreadPoolExecutor(1, "rustymimi-spare")
            self._spare = self._worker.submit(self._make)
        if self._worker is not None and self._spare is not None:
            self._backlog.append(self._worker.submit(self._follow, self._spare, item))
            while len(self._backlog) > BACKLOG_MAX or (self._backlog and self._backlog[0].done()):
                self._backlog.popleft().result()
        result = self._run(self._live, item)
        self._heard += 1
        self.history.append(item)
        if self._spare is not None and self._heard == self._frames_max:
            while self._backlog:
                self._backlog.popleft().result()
            self._live, self._spare = self._spare.result(), None
            self._heard = self._overlap_frames
        return result

    def _follow(self, spare: "Future[Any]", item: np.ndarray) -> np.ndarray:
        return self._run(spare.result(), item)

    def _run(self, instance: Any, item: np.ndarray) -> np.ndarray:
        try:
            result = getattr(instance, self._method)(item)
        except BaseException as error:  # its panics are no Exceptions
            raise _mendable(error, f"rustymimi failed in {self._method}", MoshiError) from None
        if result is None:
            raise MoshiError(f"rustymimi returned nothing from {self._method}; use the codec mlx")
        return result


def _mendable(error: BaseException, what: str, kind: type[MoshiError]) -> BaseException:
    """`error` in one line, unless it is a wish to stop."""
    if isinstance(error, KeyboardInterrupt | SystemExit | MoshiError):
        return error
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return kind(f"{what}: {first}; check the file, or use the codec mlx")
