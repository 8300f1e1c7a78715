"""A live translation's file: sound that is playable at any moment while it grows."""

from pathlib import Path

import numpy as np

from moshi_mlx.errors import AudioError
from moshi_mlx.translation import TranslatedFrame

from ..provenance.info_chunk import info_chunk
from ..provenance.origin import PROGRAM, Origin
from ..provenance.seal import seal_told
from ..recording.wav_writer import WavWriter

COMMIT_FRAMES = 6  # 480 ms: how often the header is brought up to date


class LiveFile:
    """A `Keep`. A disk that fails ends the file, not the talk: `failure` is one line then."""

    def __init__(self, path: Path, origin: Origin, stereo: bool) -> None:
        """stereo: what was heard left, the translation right. Raises AudioError."""
        self.path, self._origin, self._stereo = path, origin, stereo
        self.failure: str | None = None
        self.unsigned = ""  # one line why it is, once it is closed
        self.frames = 0
        try:
            chunk = info_chunk(PROGRAM, origin.note())
            self._writer = WavWriter(path, len(origin.channels), chunk)
        except OSError as error:
            raise AudioError(f"{path} can't be written ({error.strerror})") from None

    def __call__(self, heard: np.ndarray, frame: TranslatedFrame) -> None:
        if self.failure is not None:
            return
        pcm = np.stack([heard, frame.pcm], 1) if self._stereo else frame.pcm
        try:
            self._writer.write(pcm)
            self.frames += 1
            if self.frames % COMMIT_FRAMES == 0:
                self._writer.commit()
        except (OSError, AudioError) as error:
            self._fail(error)

    def close(self) -> None:
        """Whole, and signed where that is possible."""
        try:
            self._writer.close()
        except OSError as error:
            self._fail(error)
        if self.failure is None:
            seal_told(self.path, self._origin, self.path, self._is_unsigned)

    def _is_unsigned(self, why: str) -> None:
        self.unsigned = why

    def _fail(self, error: Exception) -> None:
        why = getattr(error, "strerror", None) or str(error)
        self.failure = f"{self.path}: recording stopped ({why}); what came before is there"
