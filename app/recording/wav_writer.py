"""A WAV file that is playable at any moment while it grows, whatever happens to its writer."""

import struct
from pathlib import Path

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

MAX_BYTES = 2**32 - 2**20  # what the header's 32 bits can say: 12 h of stereo


class WavWriter:
    """16-bit PCM. Writes go to the system at once; the header is brought up to date by `commit`."""

    def __init__(self, path: Path, channels: int, chunk: bytes = b"") -> None:
        """chunk: a whole RIFF chunk, of even length, to stand before the sound. Raises OSError."""
        self._channels, self._chunk = channels, chunk
        self._bytes = 0
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (lives as long as the talk)
        self._file.write(self._header())

    @property
    def samples(self) -> int:
        """Samples written, per channel."""
        return self._bytes // (2 * self._channels)

    def write(self, pcm: np.ndarray) -> None:
        """pcm float32 [n] or [n, channels] in [-1, 1], clipped. Raises OSError, AudioError.

        After an error the file holds whole samples and an up to date header.
        """
        data = (np.clip(pcm, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()
        if self._bytes + len(data) > MAX_BYTES:
            raise AudioError("the recording has reached 4 GB, the most a WAV file can hold")
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(28, "No space left on device")
        except OSError:
            self._repair()
            raise
        self._bytes += len(data)

    def _repair(self) -> None:
        self._file.truncate(len(self._header()) + self._bytes)
        self.commit()

    def commit(self) -> None:
        """Make the header say what is there."""
        end = self._file.seek(0, 2)
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(end)

    def close(self) -> None:
        if not self._file.closed:
            self.commit()
            self._file.close()

    def _header(self) -> bytes:
        frame_bytes = 2 * self._channels
        rate = SAMPLE_RATE_HZ
        form = struct.pack("<HHIIHH", 1, self._channels, rate, rate * frame_bytes, frame_bytes, 16)
        size = 36 + len(self._chunk) + self._bytes
        riff = b"RIFF" + struct.pack("<I", size) + b"WAVEfmt \x10\0\0\0" + form
        return riff + self._chunk + b"data" + struct.pack("<I", self._bytes)
