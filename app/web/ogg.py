"""What a run of Ogg pages holds, told without decoding it: how long its sound is, and whether it
keeps to what a talk needs (one stream, packets that end). RFC 3533 section 6, RFC 6716 section 3.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from moshi_mlx.errors import MoshiError

MAX_PACKET_BYTES = 64 * 1024  # the longest packet that Opus knows has 61 kB
MAX_PACKET_S = 0.12
CONTINUED = 1  # flag of a page whose first bytes belong to the packet before
# frame lengths by the four configurations of SILK, hybrid and CELT, in seconds
SILK_S, HYBRID_S, CELT_S = (0.01, 0.02, 0.04, 0.06), (0.01, 0.02), (0.0025, 0.005, 0.01, 0.02)


class OggError(MoshiError):
    """Bytes that aren't whole pages; nothing is known of them."""


class StreamError(MoshiError):
    """Whole pages that no Opus encoder makes: what came before is of no use either."""


@dataclass(frozen=True)
class Page:
    serial: bytes
    continued: bool
    lacing: bytes  # lengths of the segments; a packet ends with one below 255
    body: memoryview


def pages_of(data: bytes) -> Iterator[Page]:
    """Raises OggError where whole pages end."""
    view, at = memoryview(data), 0
    while at < len(data):
        if data[at : at + 5] != b"OggS\0" or at + 27 > len(data):
            raise OggError("audio isn't made of whole Ogg pages")
        begin = at + 27 + data[at + 26]
        lacing = data[at + 27 : begin]
        end = begin + sum(lacing)
        if end > len(data):
            raise OggError("the last Ogg page is cut off")
        yield Page(data[at + 14 : at + 18], bool(data[at + 5] & CONTINUED), lacing, view[begin:end])
        at = end


def packet_s(begin: memoryview) -> float:
    """Seconds of sound in an Opus packet, by its first two bytes; at most MAX_PACKET_S."""
    config, code = begin[0] >> 3, begin[0] & 3
    if config < 12:
        frame_s = SILK_S[config % 4]
    else:
        frame_s = HYBRID_S[config % 2] if config < 16 else CELT_S[config % 4]
    frames = (1, 2, 2)[code] if code < 3 else (begin[1] & 63 if len(begin) > 1 else 0)
    return min(MAX_PACKET_S, frames * frame_s)


class StreamGauge:
    """Follows one stream page by page."""

    def __init__(self) -> None:
        self._serial: bytes | None = None
        self._open_bytes = 0  # of the packet under way

    def seconds(self, data: bytes) -> float:
        """Sound in the packets that begin in these pages. Raises OggError, StreamError."""
        return sum(self._page_s(page) for page in list(pages_of(data)))

    def _page_s(self, page: Page) -> float:
        if page.serial != self._serial and self._serial is not None:
            raise StreamError("a second Ogg stream in one talk; connect again for it")
        self._serial = page.serial
        if not page.continued:
            self._open_bytes = 0
        total_s, at = 0.0, 0
        for length in page.lacing:
            if self._open_bytes == 0 and length:
                total_s += packet_s(page.body[at : at + length])
            at += length
            self._open_bytes += length
            if self._open_bytes > MAX_PACKET_BYTES:
                raise StreamError(f"an Opus packet of more than {MAX_PACKET_BYTES} bytes")
            if length < 255:
                self._open_bytes = 0
        return total_s
