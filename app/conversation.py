"""One conversation on the model thread: input from a port to the model, replies back, figures."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES

from .engine import Engine, Reply, Talk
from .events import FrameDone, Settings, Status
from .meters import SpeechDetector, StepTimes, peak_db
from .pace import PaceWatch
from .port import Capture, EndOfInput, Port

FADE_SAMPLES = 120  # 5 ms, where input was cut out
GREETING_HOLD_FRAMES = 375  # 30 s: the longest that `greeting=False` keeps Moshi silent

Clean = Callable[[np.ndarray, np.ndarray], np.ndarray]


def splice(heard: np.ndarray) -> np.ndarray:
    """A stretch [n >= 1920] -> its last frame [1920], faded in over the start of what was cut."""
    frame = heard[-FRAME_SAMPLES:].copy()
    if len(heard) > FRAME_SAMPLES:
        rise = np.linspace(0.0, 1.0, FADE_SAMPLES, dtype=np.float32)
        fade = min(FADE_SAMPLES, len(heard) - FRAME_SAMPLES)
        frame[:fade] = frame[:fade] * rise[:fade] + heard[:fade] * (1.0 - rise[:fade])
    return frame


@dataclass(frozen=True, eq=False)
class Heard:
    """A frame as the model hears it, float32 [1920], and what it was made of."""

    frame: np.ndarray
    capture: Capture
    clean_s: float  # what that took


class Conversation:
    """One conversation's state on the model thread: turns captures into replies and figures."""

    def __init__(
        self,
        number: int,
        talk: Talk,
        settings: Settings,
        port: Port,
        clean: Clean | None,
        engine: Engine,
    ) -> None:
        self.number, self.settings, self.frames = number, settings, 0
        self._talk, self._port, self._clean, self._engine = talk, port, clean, engine
        self._speech, self._steps = SpeechDetector(), StepTimes()
        self.pace = PaceWatch(engine.recipe)
        self._dropped_samples = 0
        self._hears_speech = False
        self._holding = not settings.greeting
        self._following: Heard | None = None

    def listen(self, timeout_s: float, muted: bool) -> Heard | None:
        """The next frame, its echo taken out; as `Port.read`."""
        if self._following is not None:
            heard, self._following = self._following, None
            return heard
        capture = self._port.read(timeout_s)
        if capture is None:
            return None
        start_s, mic = self._port.now(), capture.mic
        if self._clean is not None:
            mic = self._clean(mic, capture.played)
        frame = np.zeros(FRAME_SAMPLES, np.float32) if muted else splice(mic)
        return Heard(frame, capture, self._port.now() - start_s)

    def _look_ahead(self, muted: bool) -> None:
        """Behind by a frame? Then its encoding may overlap this one's step."""
        with contextlib.suppress(EndOfInput):  # the next `listen` meets it again
            self._following = self.listen(0.0, muted)

    def frame(self, heard: Heard, muted: bool) -> FrameDone:
        """Step and play; every time is on the port's clock."""
        start_s = self._port.now()
        capture = heard.capture
        self._hears_speech = self._speech.hears(heard.frame)
        if self._talk.encodes_ahead:
            self._look_ahead(muted)
        reply = self._step(heard.frame)
        end_s = self._port.now()
        wait_to_sound_s = 0.0 if reply.pcm is None else self._port.play(reply.pcm)
        step_ms = 1000 * (end_s - start_s + heard.clean_s)
        self._steps.add(step_ms)
        self._dropped_samples += capture.dropped_samples
        self.frames += 1
        return FrameDone(
            conversation=self.number,
            index=self.frames - 1,
            heard=heard.frame,
            reply=reply.pcm,
            text=reply.text,
            text_token=reply.text_token,
            step_ms=step_ms,
            wait_ms=1000 * (start_s - heard.clean_s - capture.captured_s),
            lag_ms=1000 * (end_s - capture.captured_s + wait_to_sound_s),
            dropped_frames=self._dropped_samples / FRAME_SAMPLES,
            dropped_now_samples=capture.dropped_samples,
            captured_s=capture.captured_s,
        )

    def _step(self, heard: np.ndarray) -> Reply:
        if self._holding:
            self._holding = not self._hears_speech and self.frames < GREETING_HOLD_FRAMES
        following = None if self._following is None else self._following.frame
        return self._talk.step(heard, self._holding, following)

    def status(self, done: FrameDone, before: Status, muted: bool) -> Status:
        return replace(
            before,
            state="talking",
            conversation=self.number,
            seed=self._talk.seed,
            frames=self.frames,
            step_ms_p50=self._steps.percentile(50),
            step_ms_p95=self._steps.percentile(95),
            lag_ms=done.lag_ms,
            dropped_frames=done.dropped_frames,
            buffer_ms=1000 * self._port.buffered_s(),
            user_level_db=peak_db(done.heard),
            moshi_level_db=peak_db(done.reply),
            speech=self._hears_speech,
            muted=muted,
            memory_bytes=self._engine.memory_bytes()
            if self.frames % 12 == 1
            else before.memory_bytes,
        )
