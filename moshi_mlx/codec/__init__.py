"""Speech codecs: numpy in, numpy out. What programs import from here."""

from .rust import (
    BINS,
    Codec,
    CodecStream,
    RustCodec,
    RustStream,
    checked_codes,
    checked_frame,
    checked_pcm,
    choose_codec,
    frame_seconds,
    rust_available,
)

__all__ = [
    "BINS",
    "Codec",
    "CodecStream",
    "RustCodec",
    "RustStream",
    "checked_codes",
    "checked_frame",
    "checked_pcm",
    "choose_codec",
    "frame_seconds",
    "rust_available",
]
