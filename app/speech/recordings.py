"""A list of recordings written down, several at a time: progress, and what couldn't be read."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError
from moshi_mlx.stt import Prompt, Transcriber, Transcript

CHUNK = 12 * FRAME_SAMPLES  # about a second between two moves of the progress bar
Read = Callable[[str], np.ndarray]  # name -> float32 [n] at 24 kHz; raises AudioError


@dataclass
class RecordingList:
    """names: of recordings, read when their turn comes; failed: told of each that can't be;
    bar: whether progress is shown; prompt: heard before each."""

    names: Sequence[str]
    read: Read
    failed: Callable[[AudioError], None]
    bar: bool
    prompt: Prompt | None = None
    _begun: list[str] = field(default_factory=list)  # in the order of their numbers
    _seconds: list[float] = field(default_factory=list)
    _heard: dict[int, float] = field(default_factory=dict)

    def transcribe(
        self, transcriber: Transcriber, batch: int
    ) -> Iterator[tuple[str, Transcript, float]]:
        """Name, transcript and length in seconds of each, in the order in which they end.

        One after the other where a prompt is heard first.
        """
        with tqdm(unit="s", disable=not self.bar) as bar:
            started_s = time.perf_counter()

            def heard(index: int, seconds: float) -> None:
                self._heard[index] = seconds
                bar.total = round(sum(self._seconds))
                bar.set_description(self._title(), refresh=False)
                spent_s = max(1e-9, time.perf_counter() - started_s)
                bar.set_postfix_str(f"{self.heard_s / spent_s:.1f} x real time", refresh=False)
                bar.update(int(self.heard_s) - bar.n)

            made = (
                transcriber.transcribe_all(self._sounds(), batch, heard=heard)
                if self.prompt is None
                else self._one_by_one(transcriber, heard)
            )
            for index, transcript in made:
                yield self._begun[index], transcript, self._seconds[index]

    def _one_by_one(
        self, transcriber: Transcriber, heard: Callable[[int, float], None]
    ) -> Iterator[tuple[int, Transcript]]:
        for index, pcm in enumerate(self._sounds()):
            stream = transcriber.stream(self.prompt)
            for start in range(0, len(pcm), CHUNK):
                stream.push(pcm[start : start + CHUNK])
                heard(index, min(len(pcm), start + CHUNK) / SAMPLE_RATE_HZ)
            stream.finish()
            yield index, stream.transcript()

    @property
    def heard_s(self) -> float:
        """Seconds of sound heard so far, of all recordings."""
        return sum(self._heard.values())

    def _title(self) -> str:
        if len(self.names) == 1:
            return self.names[0]
        return f"{len(self._begun)} of {len(self.names)}"

    def _sounds(self) -> Iterator[np.ndarray]:
        for name in self.names:
            try:
                pcm = self.read(name)
            except AudioError as error:
                self.failed(error)
                continue
            self._begun.append(name)
            self._seconds.append(len(pcm) / SAMPLE_RATE_HZ)
            yield pcm
