"""`--virtual-input` and `--virtual-output`: a chat whose devices are sound files, in real time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import AudioError

from ..events import Notice
from ..provenance.info_chunk import info_chunk
from ..provenance.origin import PROGRAM, Origin
from ..recording.wav_writer import WavWriter
from .device import Device
from .sound import SoundState
from .virtual_port import ArraySource, RealtimePort


class FileSound(RealtimePort):
    """A Sound: the microphone plays a file and then `tail_s` of silence; the speaker is a file.

    Raises AudioError for a file that can't be read or written.
    """

    def __init__(self, microphone: Path, speaker: Path | None, tail_s: float) -> None:
        source = ArraySource(read_mono(microphone), tail_s=tail_s)
        self._writer = None if speaker is None else open_writer(speaker)
        self._names = SoundState(str(microphone), "nowhere" if speaker is None else str(speaker))
        self._tell: Callable[[Notice], None] = lambda notice: None
        super().__init__(source, self._write)

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        self._tell = listener

    def _write(self, block: np.ndarray) -> None:
        if self._writer is not None:
            self._writer.write(block)

    def stop(self) -> None:
        super().stop()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def state(self) -> SoundState:
        return self._names

    def devices(self) -> list[Device]:
        return []

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        self._tell(Notice("devices", "virtual devices are sound files and can't be changed"))

    def problem(self) -> str | None:
        if self.failure is None:
            return None
        why = getattr(self.failure, "strerror", None) or str(self.failure)
        return f"{self._names.output_name} can't be written ({why}); is the disk full?"


def open_writer(path: Path) -> WavWriter:
    if path.suffix.lower() != ".wav":
        raise AudioError(f"{path}: --virtual-output is written as it goes, as .wav; choose .wav")
    try:
        return WavWriter(path, 1, info_chunk(PROGRAM, Origin("").note()))
    except OSError as error:
        raise AudioError(f"{path} can't be written ({error.strerror}); choose another") from None
