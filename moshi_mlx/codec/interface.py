"""What a codec is: numpy in, numpy out; and the checks of what it is given, the same for all."""

from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..audio.finite import finite
from ..clock import SAMPLE_RATE_HZ
from ..errors import MoshiError


@dataclass(frozen=True)
class CodecState:
    """One conversation's encoder and decoder between two frames; kind: "mlx" or "rust"."""

    kind: str
    arrays: dict[str, mx.array]


class CodecStream(Protocol):
    """One conversation: frames [frame_samples] to codes [K] and back, in order.

    A codec on the CPU is called from two threads at once: encoding on one, decoding on another.
    """

    @property
    def graph(self) -> "LazyStream | None":
        """This stream as a part of an MLX graph; None where it computes outside of MLX."""
        ...

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """float [frame_samples] -> int32 [K]."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int [K] -> float32 [frame_samples]."""
        ...

    def state(self) -> CodecState:
        """What another stream of this codec needs to go on from here (`Codec.resume`)."""
        ...


class LazyStream(Protocol):
    """A stream whose graph the language model's step can share; nothing is evaluated or checked."""

    def encode_lazy(self, frame: mx.array) -> mx.array:
        """float [frame_samples] -> int32 [K]."""
        ...

    def decode_lazy(self, codes: mx.array) -> mx.array:
        """int [K] -> float32 [frame_samples]."""
        ...

    @property
    def arrays(self) -> list[mx.array]:
        """All state, to be evaluated with what it gave."""
        ...


class Codec(Protocol):
    """Speech to codes and back. All of it raises MoshiError for input of another shape or type."""

    num_codebooks: int
    frame_samples: int
    bins: int  # entries of a codebook

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        """float [samples] -> int32 [num_codebooks, frames], the last frame zero-padded."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int [K, frames] -> float32 [frames * frame_samples]."""
        ...

    def stream(self) -> CodecStream:
        """A new conversation, independent of all others."""
        ...

    def resume(self, state: CodecState) -> CodecStream:
        """A conversation that goes on where another was. Raises MoshiError for another codec's."""
        ...


def checked_pcm(pcm: np.ndarray) -> np.ndarray:
    """float32 [samples]. Raises MoshiError for another shape, integers, NaN or infinity."""
    pcm = one_channel(pcm)
    if not (good := np.isfinite(pcm)).all():
        where = int(np.argmin(good)) / SAMPLE_RATE_HZ
        raise MoshiError(
            f"the samples aren't all finite numbers (first at {where:.2f} s); mend them"
        )
    return pcm


def checked_frame(frame: np.ndarray, frame_samples: int) -> np.ndarray:
    """float32 [frame_samples] with NaN and infinity silenced: one would spoil minutes of a stream.

    Raises MoshiError for another shape or for integers.
    """
    frame = one_channel(frame)
    if len(frame) != frame_samples:
        raise MoshiError(f"a frame has {frame_samples} samples, not {len(frame)}; cut or pad it")
    return finite(frame)


def one_channel(pcm: np.ndarray) -> np.ndarray:
    """float32 [n] of it. Raises MoshiError for another shape and for integers."""
    pcm = np.asarray(pcm)
    if pcm.ndim != 1:
        raise MoshiError(
            f"the codec takes one channel of samples, not an array of shape {list(pcm.shape)}; "
            "mix the channels or pick one"
        )
    if not np.issubdtype(pcm.dtype, np.floating):
        raise MoshiError(
            f"the codec takes float samples in [-1, 1], not {pcm.dtype}; divide int16 by 32768"
        )
    return pcm.astype(np.float32, copy=False)


def checked_codes(codes: np.ndarray, num_codebooks: int, bins: int) -> np.ndarray:
    """int32 [K, frames], 1 <= K <= num_codebooks, each in [0, bins), or a MoshiError."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
        raise MoshiError(
            "codes must be integers [codebooks, frames], or [codebooks] in a stream, not "
            f"{codes.dtype} {list(codes.shape)}"
        )
    if not 1 <= len(codes) <= num_codebooks:
        raise MoshiError(
            f"{len(codes)} codebooks given, the codec was loaded with {num_codebooks}; "
            f"give 1 to {num_codebooks} or load it with another num_codebooks"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= bins):
        raise MoshiError(
            f"codes run from {codes.min()} to {codes.max()}; they must be from 0 to {bins - 1}"
        )
    return codes.astype(np.int32, copy=False)
