"""A live translation's sound, on its way into the index: told as a talk's is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from moshi_mlx.translation import TranslatedFrame

from ..events import ConversationStarted, FrameDone, Notice, Settings
from ..provenance.index_writer import IndexWriter


class LiveIndex:
    """A `Keep`."""

    def __init__(self, path: Path, tell: Callable[[Notice], None]) -> None:
        """tell: what goes wrong, a line. Raises MoshiError for an index that can't be used."""
        self._writer, self._frames = IndexWriter(path, tell), 0
        self._writer(ConversationStarted(1, 0, Settings()))

    def __call__(self, heard: np.ndarray, frame: TranslatedFrame) -> None:
        self._writer(
            FrameDone(
                conversation=1,
                index=self._frames,
                heard=heard,
                reply=frame.pcm,
                text=frame.text,
                text_token=0,
                step_ms=0.0,
                wait_ms=0.0,
                lag_ms=0.0,
                dropped_frames=0.0,
                dropped_now_samples=0,
            )
        )
        self._frames += 1

    def close(self) -> None:
        """Once all of it is written."""
        self._writer.close()
