"""What a codec accepts: one channel of float samples, code numbers that exist."""

import numpy as np

from ..errors import MoshiError


def checked_samples(pcm: np.ndarray) -> np.ndarray:
    """float32 [samples]. Raises MoshiError for another shape or for integers."""
    pcm = np.asarray(pcm)
    if pcm.ndim != 1:
        raise MoshiError(
            f"the codec takes one channel of samples, not an array of shape {list(pcm.shape)}; "
            "mix the channels or pick one"
        )
    if not np.issubdtype(pcm.dtype, np.floating):
        raise MoshiError(
            f"the codec takes float samples in [-1, 1], not {pcm.dtype}; divide 16 bit by 32768"
        )
    return pcm.astype(np.float32, copy=False)


def checked_pcm(pcm: np.ndarray) -> np.ndarray:
    """float32 [samples], all finite, or a MoshiError that says which isn't."""
    pcm = checked_samples(pcm)
    if not (finite := np.isfinite(pcm)).all():
        raise MoshiError(
            f"sample {int(np.argmin(finite))} isn't a finite number; is the file intact?"
        )
    return pcm


def checked_frame(frame: np.ndarray, frame_samples: int) -> np.ndarray:
    """float32 [frame_samples], or a MoshiError."""
    frame = checked_samples(frame)
    if len(frame) != frame_samples:
        raise MoshiError(f"a frame has {frame_samples} samples, not {len(frame)}")
    return frame


def cleaned(frame: np.ndarray) -> np.ndarray:
    """The frame with NaN and infinite samples silenced: one would spoil minutes of a stream."""
    return frame if np.isfinite(frame).all() else np.where(np.isfinite(frame), frame, 0)


def checked_codes(codes: np.ndarray, num_codebooks: int, bins: int) -> np.ndarray:
    """int32 [K, frames], 1 <= K <= num_codebooks, each in [0, bins), or a MoshiError."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
        raise MoshiError(
            "codes are integers with codebooks as first axis, not "
            f"{codes.dtype} of shape {list(codes.shape)}"
        )
    if not 1 <= len(codes) <= num_codebooks:
        raise MoshiError(
            f"{len(codes)} codebooks given where this codec was loaded with {num_codebooks}; "
            "load it with num_codebooks as many"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= bins):
        raise MoshiError(
            f"codes run from {codes.min()} to {codes.max()}; they must be from 0 to {bins - 1}"
        )
    return codes.astype(np.int32, copy=False)
