"""The files of one recorded conversation: stereo sound, transcript, timings, manifest.

What is on disk is whole at any moment, so a crash loses less than a second.
"""

import contextlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ

from ..events import ConversationStarted, FrameDone, Ready, Settings, UserWord
from ..provenance.info_chunk import info_chunk
from ..provenance.origin import HUMAN, MACHINE, PROGRAM, Origin
from .text_file import TextFile
from .transcript import VTT_HEADER, CueMaker, json_line, json_line_at
from .wav_writer import WavWriter

SWITCHED_OFF = "switched off"  # how a recording ends that its talk outlives
COMMIT_FRAMES = 6  # 480 ms: how often the files are brought up to date
NOTE = "The right channel is synthetic speech made by a model; the left channel is the user."


class Take:
    """Begun with the conversation, in a folder of its own. Raises OSError."""

    def __init__(self, folder: Path, started: ConversationStarted, model: Ready | None) -> None:
        self.folder = folder
        self._manifest: dict[str, Any] = {
            "model": model.model if model else "",
            "recipe": model.recipe if model else "",
            "adapter": adapter_of(started, model),
            "seed": started.seed,
            "settings": settings_told(started.settings),
            "resumed_from": told_name(started.settings.resume),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "channels": ["user, as the model heard it", "Moshi"],
            "note": NOTE,
            "mark": model.mark if model else "none",
            "finished": False,
        }
        self._write_manifest()
        self.origin = origin_of(started, model)
        self.note = self.origin.note()
        self._sound = WavWriter(folder / "talk.wav", 2, info_chunk(PROGRAM, self.note))
        self._words = TextFile(folder / "transcript.jsonl")
        self._cues = TextFile(folder / "transcript.vtt")
        self._timings = TextFile(folder / "timings.jsonl")
        self._cues.write(VTT_HEADER)
        self._maker = CueMaker()
        self._number = started.number
        self._user_words: TextFile | None = None
        self._until_s = math.inf
        self._start_s = time.monotonic()
        self._frames, self._dropped = 0, 0.0
        self._first = 0  # index of the first frame recorded; times are the recording's

    def frame(self, done: FrameDone) -> None:
        stereo = np.zeros((FRAME_SAMPLES, 2), np.float32)
        stereo[:, 0] = done.heard
        if done.reply is not None:
            stereo[:, 1] = done.reply
        if self._frames == 0:
            self._first = done.index
        index = done.index - self._first
        self._sound.write(stereo)
        self._frames, self._dropped = self._frames + 1, done.dropped_frames
        if done.text:
            self._words.write(json_line(index, done.text))
        if (cue := self._maker.add(index, done.text)) is not None:
            self._cues.write(cue.vtt())
        self._timings.write(self._timing(done))
        if self._frames % COMMIT_FRAMES == 0:
            self._sound.commit()

    def user_word(self, word: UserWord) -> None:
        """Into a file of their own, made for the first one: they come later than they were said,
        the last ones after `close`."""
        if word.conversation != self._number:
            return
        at_s = word.at_s - self._first * FRAME_SECONDS
        if not 0 <= at_s < self._until_s:  # before it was switched on, or after it was off
            return
        if self._user_words is None:
            self._user_words = TextFile(self.folder / "you.jsonl", more=True)
        try:
            self._user_words.write(json_line_at(at_s, word.text))
        finally:
            if self._manifest["finished"]:
                self._close_user_words()

    def _close_user_words(self) -> None:
        file, self._user_words = self._user_words, None
        if file is not None:
            file.close()

    def _timing(self, done: FrameDone) -> str:
        figures = {"step_ms": done.step_ms, "wait_ms": done.wait_ms, "lag_ms": done.lag_ms}
        line: dict[str, Any] = {"frame": done.index}
        line |= {name: round(value, 2) for name, value in figures.items()}
        line |= {"dropped_samples": done.dropped_now_samples}
        line |= {"written_s": round(time.monotonic() - self._start_s, 3)}
        return json.dumps(line) + "\n"

    def close(self, reason: str) -> None:
        """Raises OSError, after everything that can be closed has been."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_user_words)
            for file in (self._sound, self._words, self._cues, self._timings):
                stack.callback(file.close)
            if (cue := self._maker.finish()) is not None:
                self._cues.write(cue.vtt())
        if reason == SWITCHED_OFF:
            self._until_s = self._frames * FRAME_SECONDS
        self._manifest |= {"finished": True, "ended": reason, "frames": self._frames}
        self._manifest |= {"first_frame": self._first}
        self._manifest |= {"dropped_frames": round(self._dropped, 3)}
        self._write_manifest()

    def sealed(self, why_not: str) -> None:
        """Into the manifest. Raises OSError."""
        self._manifest |= {"signed": True} if not why_not else {"signed": False, "why": why_not}
        self._write_manifest()

    def _write_manifest(self) -> None:
        path, part = self.folder / "manifest.json", self.folder / "manifest.json.part"
        try:
            part.write_text(json.dumps(self._manifest, indent=1) + "\n")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def settings_told(settings: Settings) -> dict[str, Any]:
    """As they are, but for the folders of a voice's file."""
    told = asdict(settings) | {"voice": told_name(settings.voice)}
    del told["resume"]  # said by itself
    return told


def told_name(path: str | Path | None) -> str | None:
    return None if path is None else Path(path).name


def adapter_of(started: ConversationStarted, model: Ready | None) -> str:
    """The one that this talk was given, or the model's own."""
    return started.settings.adapter or (model.adapter if model else "")


def origin_of(started: ConversationStarted, model: Ready | None) -> Origin:
    return Origin(
        model=model.model if model else "",
        channels=(HUMAN, MACHINE),
        seed=started.seed,
        revision=model.revision if model else "",
        adapter=adapter_of(started, model),
        mark=model.mark if model else "none",
    )
