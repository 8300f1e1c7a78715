"""Kyutai's binary websocket protocol: message types, and sound in both directions as plain objects.

A message is one byte of type and a payload. Ours adds two types of its own, sent only to clients
that asked for them with `?codec=pcm`: raw sound, which saves 46 ms of Opus packets and pre-skip.
Source: `rust/protocol.md` in kyutai-labs/moshi.
"""

import json
import struct
from enum import IntEnum
from typing import Protocol

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import MoshiError, with_extra

from .ogg import OggError, StreamError, StreamGauge

HANDSHAKE_PAYLOAD = struct.pack("<II", 0, 0)  # protocol version, model version
MAX_MESSAGE_BYTES = 64 * 1024
MAX_OPUS_S = 2.0  # of sound in one message: decoded within 10 ms, between two turns of the loop
MAX_PCM_SAMPLES = SAMPLE_RATE_HZ  # in one message
SAVE = b'{"type":"save"}'  # metadata of our page: what is wanted of the talk
HANG_UP = b'{"type":"hang-up"}'  # its end, by who waits for their last words
PCM_HEADER = struct.Struct("<Iff")  # frame number, waited ms, computed ms


class Kind(IntEnum):
    """The first byte of a message."""

    HANDSHAKE = 0
    AUDIO = 1  # Ogg pages of Opus, 24 kHz mono
    TEXT = 2  # UTF-8
    CONTROL = 3
    METADATA = 4  # JSON
    ERROR = 5  # UTF-8
    PING = 6
    PCM = 16  # int16 little endian, 24 kHz mono; from the server after a PCM_HEADER


class ProtocolError(MoshiError):
    """A message that can't be understood. The conversation goes on without it."""


def handshake() -> bytes:
    return bytes([Kind.HANDSHAKE]) + HANDSHAKE_PAYLOAD


def text(piece: str) -> bytes:
    return bytes([Kind.TEXT]) + piece.encode()


def error(message: str) -> bytes:
    return bytes([Kind.ERROR]) + message.encode()


def waiting(ahead: int, can_take_over: bool) -> bytes:
    """For who waits for the line: how many others do so before them."""
    return metadata({"type": "waiting", "ahead": ahead, "can_take_over": can_take_over})


def metadata(data: dict) -> bytes:
    return bytes([Kind.METADATA]) + json.dumps(data).encode()


def split(message: bytes) -> tuple[Kind | None, bytes]:
    """Message -> (kind, payload); kind is None for a type nobody defined, to be ignored.

    Raises:
        ProtocolError: the message is empty or larger than MAX_MESSAGE_BYTES.
    """
    if not message:
        raise ProtocolError("empty message; send one byte of type first")
    if len(message) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"message of {len(message)} bytes; at most {MAX_MESSAGE_BYTES} allowed")
    try:
        return Kind(message[0]), message[1:]
    except ValueError:
        return None, message[1:]


class WireCodec(Protocol):
    """Sound of one conversation on the wire."""

    kind: Kind

    def measure(self, payload: bytes) -> float:
        """Seconds of sound in a payload, told before it is decoded. Raises ProtocolError."""
        ...

    def decode(self, payload: bytes) -> np.ndarray:
        """Measured payload -> float32 [samples] at 24 kHz; may be empty. Raises ProtocolError."""
        ...

    def encode(self, pcm: np.ndarray, frame: int, waited_ms: float, computed_ms: float) -> bytes:
        """Float32 [samples] -> a whole message, or b"" while a packet is being filled."""
        ...


class OpusCodec:
    """Ogg Opus, as all of Kyutai's clients speak it."""

    kind = Kind.AUDIO

    def __init__(self) -> None:
        """Raises MoshiError where the Opus library isn't installed."""
        try:
            import sphn
        except ImportError:  # an extra: 79 MB, and no wheel for every platform
            raise MoshiError(
                "this server has no Opus, which Kyutai's clients need: add the extra kyutai there "
                f"({with_extra('kyutai')}), or connect with codec=pcm, as its own page does"
            ) from None
        self._new_reader = lambda: sphn.OpusStreamReader(SAMPLE_RATE_HZ)
        self._begin()
        self._writer = sphn.OpusStreamWriter(SAMPLE_RATE_HZ)

    def _begin(self) -> None:
        """With the next page, as if nothing had come: a reader keeps all that it can't decode."""
        self._reader, self._gauge = self._new_reader(), StreamGauge()

    def measure(self, payload: bytes) -> float:
        try:
            seconds = self._gauge.seconds(payload)
        except OggError as problem:
            raise ProtocolError(str(problem)) from None
        except StreamError as problem:
            self._begin()
            raise ProtocolError(str(problem)) from None
        if seconds > MAX_OPUS_S:
            raise ProtocolError(f"{seconds:.1f} s of sound in one message, {MAX_OPUS_S:g} at most")
        return seconds

    def decode(self, payload: bytes) -> np.ndarray:
        try:
            return self._reader.append_bytes(payload)
        except ValueError as problem:  # the reader is of no use after that
            self._begin()
            raise ProtocolError(f"audio can't be decoded: {problem}") from None

    def encode(self, pcm: np.ndarray, frame: int, waited_ms: float, computed_ms: float) -> bytes:
        pages = self._writer.append_pcm(pcm)
        return bytes([Kind.AUDIO]) + pages if pages else b""


class PcmCodec:
    """Raw 16-bit sound, with the figures behind the page's latency display."""

    kind = Kind.PCM

    def measure(self, payload: bytes) -> float:
        if len(payload) % 2 or len(payload) > 2 * MAX_PCM_SAMPLES:
            raise ProtocolError("raw sound must be whole 16-bit samples, at most one second")
        return len(payload) / 2 / SAMPLE_RATE_HZ

    def decode(self, payload: bytes) -> np.ndarray:
        return np.frombuffer(payload, "<i2").astype(np.float32) / 32768

    def encode(self, pcm: np.ndarray, frame: int, waited_ms: float, computed_ms: float) -> bytes:
        header = PCM_HEADER.pack(frame & 0xFFFFFFFF, waited_ms, computed_ms)
        samples = (np.clip(pcm, -1, 1) * 32767).astype("<i2")
        return bytes([Kind.PCM]) + header + samples.tobytes()


CODECS: dict[str, type[WireCodec]] = {"opus": OpusCodec, "pcm": PcmCodec}
