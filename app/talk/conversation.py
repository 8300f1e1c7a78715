"""One conversation: input from a port to the model, replies back, figures.

The model thread hears and steps. A reply is finished (played, measured, told) there too, or else
on the thread that decodes its sound, since the model thread is in the next step for long by then:
one frame at a time, in order, either way. Fakes on a virtual clock have their sound in the reply,
so a virtual talk is one computation on one thread.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from moshi_mlx.audio.levels import VoiceActivityDetector
from moshi_mlx.clock import FRAME_SAMPLES

from ..audio.stream.port import Capture, EndOfInput, Port
from ..echo.choice import Clean
from ..events import FrameDone, Settings, Status
from .engine import Engine, EngineReply, EngineTalk, TalkFile
from .meters import StepTimes, peak_db
from .pace import PaceWatch

FADE_SAMPLES = 120  # 5 ms, where input was cut out
MEMORY_EVERY_FRAMES = 12  # how often the model is asked for its memory
GREETING_HOLD_FRAMES = 375  # 30 s: the longest that `greeting=False` keeps Moshi silent


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


@dataclass(frozen=True, eq=False)
class Stepped:
    """A frame that the model is through with; its sound may be still to come."""

    heard: Heard
    reply: EngineReply
    index: int
    start_s: float
    end_s: float
    dropped_samples: int  # in this conversation so far
    speech: bool
    muted: bool
    memory_bytes: int | None  # None: not looked at


class Conversation:
    """One conversation's state: turns captures into replies and figures."""

    def __init__(
        self,
        number: int,
        talk: EngineTalk,
        settings: Settings,
        port: Port,
        clean: Clean | None,
        engine: Engine,
        tell: "Callable[[Conversation, Stepped, FrameDone], None]",
    ) -> None:
        """`tell` is called with every frame as it is finished."""
        self.number, self.settings = number, settings
        self.frames = 0  # finished
        self._talk, self._port, self._clean, self._engine = talk, port, clean, engine
        self._tell = tell
        self._speech, self._steps = VoiceActivityDetector(), StepTimes()
        self.pace = PaceWatch(engine.name, engine.recipe)
        self.prompt_until = talk.prompt_until
        self._stepped = self._dropped_samples = 0
        self._hears_speech = False
        self._holding = not settings.greeting
        self._following: Heard | None = None
        self._finished_s = 0.0
        self._error: BaseException | None = None  # of a frame finished on the decoder's thread

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

    def keep(self, note: str, muted: bool) -> TalkFile:
        """The talk between two frames. A frame that was announced already is stepped first: who
        resumes has no such frame. Raises MoshiError."""
        while self._following is not None:
            heard, self._following = self._following, None
            self.frame(heard, muted, ahead=False)
        self.check()
        return self._talk.keep(note)

    def frame(self, heard: Heard, muted: bool, ahead: bool = True) -> None:
        """Step, and finish the frame as soon as its sound is there; `ahead`: the next one may be
        announced."""
        start_s, index = self._port.now(), self._stepped
        self._hears_speech = self._speech.hears(heard.frame)
        if ahead and self._talk.encodes_ahead:
            self._look_ahead(muted)
        reply = self._step(heard.frame)
        end_s = self._port.now()
        self._stepped += 1
        self._dropped_samples += heard.capture.dropped_samples
        stepped = Stepped(
            heard=heard,
            reply=reply,
            index=index,
            start_s=start_s,
            end_s=end_s,
            dropped_samples=self._dropped_samples,
            speech=self._hears_speech,
            muted=muted,
            memory_bytes=None if index % MEMORY_EVERY_FRAMES else self._engine.memory_bytes(),
        )
        if reply.later is None:
            self._finish(stepped, reply.pcm)
        else:
            reply.later.add_done_callback(partial(self._finish_later, stepped))

    def _step(self, heard: np.ndarray) -> EngineReply:
        if self._holding:
            self._holding = not self._hears_speech and self._stepped < GREETING_HOLD_FRAMES
        following = None if self._following is None else self._following.frame
        return self._talk.step(heard, self._holding, following)

    def _finish_later(self, stepped: Stepped, sound: "Future[np.ndarray | None]") -> None:
        """On the decoder's thread, or the model thread where the sound was there at once."""
        if self._error is not None:  # a recording has no hole
            return
        try:
            self._finish(stepped, sound.result())
        except BaseException as error:  # thread boundary: `check` raises it on the model thread
            self._error = error

    def check(self) -> None:
        """Raises what went wrong with a frame's sound since."""
        if self._error is not None:
            raise self._error

    def _finish(self, stepped: Stepped, pcm: np.ndarray | None) -> None:
        """Play and tell; every time is on the port's clock."""
        decoded_s, capture = self._port.now(), stepped.heard.capture
        wait_to_sound_s = 0.0 if pcm is None else self._port.play(pcm)
        model_s = stepped.end_s - stepped.start_s + stepped.heard.clean_s
        decoder_s = decoded_s - max(stepped.end_s, self._finished_s)
        step_ms = 1000 * max(model_s, decoder_s)
        self._steps.add(step_ms)
        self.frames += 1
        done = FrameDone(
            conversation=self.number,
            index=stepped.index,
            heard=stepped.heard.frame,
            reply=pcm,
            text=stepped.reply.text,
            text_token=stepped.reply.text_token,
            step_ms=step_ms,
            wait_ms=1000 * (stepped.start_s - stepped.heard.clean_s - capture.captured_s),
            lag_ms=1000 * (decoded_s - capture.captured_s + wait_to_sound_s),
            dropped_frames=stepped.dropped_samples / FRAME_SAMPLES,
            dropped_now_samples=capture.dropped_samples,
            captured_s=capture.captured_s,
        )
        self._tell(self, stepped, done)
        self._finished_s = self._port.now()

    def status(self, stepped: Stepped, done: FrameDone, before: Status) -> Status:
        memory = stepped.memory_bytes
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
            speech=stepped.speech,
            muted=stepped.muted,
            memory_bytes=before.memory_bytes if memory is None else memory,
        )
