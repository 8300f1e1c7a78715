"""`--virtual-input` and `--virtual-output`: a chat whose devices are sound files, in real time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import AudioError

from ..events import Notice
from ..provenance.info_chunk import info_chunk
from ..provenance.origin import PROGRAM, Origin
from ..recording.wav_writer import WavWriter
from .devices.device import Device
from .loudspeaker import Loudspeaker
from .sound import SoundState
from .virtual_port import ArraySource, RealtimePort

OpenSpeaker = Callable[[], Loudspeaker]


class FileSound(RealtimePort):
    """A Sound: the microphone plays a file and then `tail_s` of silence; the speaker is a file.

    The file waits while the model is behind, as nobody who speaks would: `state().waited_s`.
    """

    def __init__(
        self,
        microphone: Path,
        speaker: Path | None,
        tail_s: float,
        open_aloud: OpenSpeaker | None = None,
    ) -> None:
        """`open_aloud`: a loudspeaker that plays both sides, where there is one.

        Raises AudioError for a file that can't be read or written.
        """
        self._said = ArraySource(read_mono(microphone), tail_s=tail_s)
        if speaker is not None:
            check_speaker(speaker)
        self._speaker = speaker
        self._writer: WavWriter | None = None
        self._names = SoundState(str(microphone), "nowhere" if speaker is None else str(speaker))
        self._open_aloud, self._aloud = open_aloud, None
        self._asked = np.zeros(0, np.float32)  # the block that is being said
        self._tell: Callable[[Notice], None] = lambda notice: None
        super().__init__(self._next, self._write, patient=True)

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        self._tell = listener

    def start(self) -> None:
        if self._open_aloud is not None:
            try:
                self._aloud = self._open_aloud()
                for note in self._aloud.notes:
                    self._tell(Notice("device-choice", note))
            except AudioError as error:
                self._tell(Notice("silent", f"nothing is heard here: {error}"))
        super().start()

    @property
    def heard_through(self) -> str | None:
        """The loudspeaker's name, where there is one."""
        return None if self._aloud is None else self._aloud.name

    def _next(self, n: int) -> np.ndarray | None:
        block = self._said(n)
        self._asked = np.zeros(n, np.float32) if block is None else block
        return block

    def _write(self, block: np.ndarray) -> None:
        if (
            self._speaker is not None and self._writer is None
        ):  # nothing is lost before a first word
            self._writer = WavWriter(self._speaker, 1, info_chunk(PROGRAM, Origin("").note()))
        if self._writer is not None:
            self._writer.write(block)
        if self._aloud is not None:
            self._aloud.play(np.clip(self._asked + block, -1.0, 1.0))

    def stop(self) -> None:
        super().stop()
        if self._writer is not None:
            self._writer.close()
            self._speaker, self._writer = None, None
        if self._aloud is not None:
            self._aloud.close()

    def state(self) -> SoundState:
        return replace(self._names, waited_s=self.waited_s)

    def devices(self) -> list[Device]:
        return []

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        self._tell(Notice("devices", "virtual devices are sound files and can't be changed"))

    def problem(self) -> str | None:
        if self.failure is None:
            return None
        why = getattr(self.failure, "strerror", None) or str(self.failure)
        return f"{self._names.output_name} can't be written ({why}); is the disk full?"


def check_speaker(path: Path) -> None:
    """AudioError for what can't be written as it goes, with a header brought up to date."""
    if path.suffix.lower() != ".wav":
        raise AudioError(f"{path}: --virtual-output is written as it goes, as .wav; choose .wav")
    if path.exists() and not (path.is_file() or path.is_char_device()):
        raise AudioError(
            f"{path} is no file: --virtual-output is written as it goes, choose a name"
        )
