"""Speech codecs: numpy in, numpy out. What programs import from here."""

from .choice import MEASURE_SECONDS, choose_codec, frame_seconds
from .interface import Codec, CodecStream, LazyStream, checked_codes, checked_frame, checked_pcm
from .rust import (
    BACKLOG_MAX,
    BINS,
    FRAMES_MAX,
    OVERLAP_FRAMES,
    RustCodec,
    RustStream,
    rust_available,
)

__all__ = [
    "BACKLOG_MAX",
    "BINS",
    "FRAMES_MAX",
    "MEASURE_SECONDS",
    "OVERLAP_FRAMES",
    "Codec",
    "CodecStream",
    "LazyStream",
    "RustCodec",
    "RustStream",
    "checked_codes",
    "checked_frame",
    "checked_pcm",
    "choose_codec",
    "frame_seconds",
    "rust_available",
]
