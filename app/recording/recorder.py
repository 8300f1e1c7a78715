"""Writes a talk to disk as it goes: stereo sound, transcript, timings, manifest.

A session listener: it only queues events; a thread of its own writes them. What is on disk is
whole at any moment, so a crash loses less than a second. A disk that fails ends the recording,
never the talk.
"""

import contextlib
import json
import math
import queue
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from ..events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    FrameDone,
    Notice,
    Ready,
    Settings,
    Stopped,
    UserWord,
)
from ..provenance.info_chunk import info_chunk
from ..provenance.origin import HUMAN, MACHINE, PROGRAM, Origin
from ..provenance.seal import BYTES_PER_S, Seal
from .transcript import VTT_HEADER, CueMaker, json_line, json_line_at
from .wav_writer import WavWriter

QUEUE_FRAMES = 375  # 30 s; a disk that hangs for longer ends the recording
LONGEST_SEAL_S = 600.0
FINISH_S = 0.5  # how soon the end is seen when the queue was full
COMMIT_FRAMES = 6  # 480 ms: how often the files are brought up to date
NOTE = "The right channel is synthetic speech made by a model; the left channel is the user."


class Recorder:
    """Call it with every event; `close` when the session has ended."""

    def __init__(
        self,
        folder: Path,
        flac: bool = False,
        on_notice: Callable[[Notice], None] | None = None,
        seal: Seal | None = None,
    ) -> None:
        """Makes `folder`. Raises AudioError when that is impossible."""
        self.folder, self._flac, self._seal = Path(folder), flac, seal
        self._on_notice = on_notice
        self._queue: queue.Queue[Event] = queue.Queue(QUEUE_FRAMES)
        self._take: _Take | None = None
        self._model: Ready | None = None
        self.failure: str | None = None  # one line once the disk has failed
        self.takes: list[Path] = []  # one folder for each conversation recorded
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioError(f"can't record to {folder}: {error.strerror}") from error
        self._until_s = math.inf
        self._sealing = False
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name="moshi-recorder", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Any thread; never waits."""
        if self.failure is None:
            try:
                self._queue.put_nowait(event)
            except queue.Full:
                self._fail(f"the disk of {self.folder} does not answer")

    def finish(self) -> None:
        """Write what is queued and end the thread, without waiting for it."""
        self._finished.set()
        with contextlib.suppress(queue.Full):  # then the thread sees `_finished` soon enough
            self._queue.put_nowait(Stopped())

    def close(self, timeout_s: float = 10.0, flac_s: float = math.inf) -> None:
        """The same, and wait. Sound that takes longer than `flac_s` to be made a flac stays wav,
        and unsigned; signing is waited for, since long recordings take longer than `timeout_s`."""
        self._until_s = time.monotonic() + flac_s
        self.finish()
        self._thread.join(timeout_s)
        if self._sealing and math.isinf(flac_s):
            self._thread.join(LONGEST_SEAL_S)

    def _fail(self, why: str) -> None:
        self.failure = f"recording stopped: {why}"
        if self._on_notice is not None:
            self._on_notice(Notice("recording-failed", self.failure))

    def _run(self) -> None:
        while not isinstance(event := self._next(), Stopped):
            if self.failure is None:
                try:
                    self._write(event)
                except (OSError, AudioError) as error:
                    self._fail(getattr(error, "strerror", None) or str(error))
                    self._end_take("disk failed")
        self._end_take("stopped")

    def _next(self) -> Event:
        """The next event; Stopped when asked to finish and everything has been written."""
        while True:
            try:
                return self._queue.get(timeout=FINISH_S)
            except queue.Empty:
                if self._finished.is_set():
                    return Stopped()

    def _write(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._model = event
        elif isinstance(event, ConversationStarted):
            self._end_take("new conversation")
            self._take = self._begin_take(event)
            self.takes.append(self._take.folder)
        elif isinstance(event, FrameDone) and self._take is not None:
            self._take.frame(event)
        elif isinstance(event, UserWord) and self._take is not None:
            self._take.user_word(event)
        elif isinstance(event, ConversationEnded):
            self._end_take(event.reason)

    def _begin_take(self, event: ConversationStarted) -> "_Take":
        folder = self._new_folder(event.number)
        try:
            return _Take(folder, event, self._model)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # ours alone: it was made a moment ago
            raise

    def _new_folder(self, number: int) -> Path:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ["", *(f"-{i}" for i in range(2, 1000))]:
            path = self.folder / f"{stamp}_talk{number}{suffix}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
        raise AudioError(f"too many recordings in {self.folder}")

    def _end_take(self, reason: str) -> None:
        take, self._take = self._take, None
        if take is not None:
            try:
                take.close(reason)
                sound = take.folder / "talk.wav"
                if self._flac and self.failure is None:
                    sound = to_flac(sound, lambda: time.monotonic() < self._until_s, take.note)
                if self._seal is not None and self.failure is None:
                    take.sealed(self._sealed(sound, take.origin))
            except OSError as error:
                if self.failure is None:
                    self._fail(error.strerror or str(error))

    def _sealed(self, sound: Path, origin: Origin) -> str:
        """ "" when the sound is signed, else one line why not."""
        assert self._seal is not None
        needed_s = sound.stat().st_size / BYTES_PER_S
        if time.monotonic() + needed_s > self._until_s:
            return "unsigned: there was no time"
        self._sealing = True
        try:
            return self._seal(sound, origin)
        finally:
            self._sealing = False


class _Take:
    """The files of one conversation."""

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
        self._words = _TextFile(folder / "transcript.jsonl")
        self._cues = _TextFile(folder / "transcript.vtt")
        self._timings = _TextFile(folder / "timings.jsonl")
        self._cues.write(VTT_HEADER)
        self._maker = CueMaker()
        self._number = started.number
        self._user_words: _TextFile | None = None
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
        """Into a file of their own, made for the first one: they come later than they were said."""
        if word.conversation != self._number:
            return
        if self._user_words is None:
            self._user_words = _TextFile(self.folder / "you.jsonl")
        at_s = word.at_s - self._first * FRAME_SECONDS
        self._user_words.write(json_line_at(at_s, word.text))

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
            for file in (self._sound, self._words, self._cues, self._timings, self._user_words):
                if file is not None:
                    stack.callback(file.close)
            if (cue := self._maker.finish()) is not None:
                self._cues.write(cue.vtt())
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


class _TextFile:
    """Whole lines, written to the system at once; a write that fails leaves no half line."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (lives as long as the talk)
        self._bytes = 0

    def write(self, text: str) -> None:
        data = text.encode()
        try:
            if self._file.write(data) != len(data):
                raise OSError(28, "No space left on device")
        except OSError:
            self._file.truncate(self._bytes)
            raise
        self._bytes += len(data)

    def close(self) -> None:
        self._file.close()


def to_flac(wav: Path, go_on: Callable[[], bool], note: str) -> Path:
    """Turn a WAV file into a FLAC file beside it; the WAV goes once the FLAC is whole.

    It stays when `go_on` says no, asked about every 3 s of sound. Returns the file that is there.
    Raises OSError.
    """
    import soundfile

    flac, part = wav.with_suffix(".flac"), wav.with_suffix(".flac.part")
    try:
        with soundfile.SoundFile(wav) as source:
            options = {"samplerate": source.samplerate, "channels": source.channels}
            with soundfile.SoundFile(part, "w", **options, format="FLAC") as out:
                out.software, out.comment = PROGRAM, note
                for block in source.blocks(1 << 16, dtype="int16"):
                    if not go_on():
                        return wav
                    out.write(block)
        part.replace(flac)
    except soundfile.LibsndfileError as error:
        raise OSError(5, f"can't write {flac.name}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    wav.unlink()
    return flac
