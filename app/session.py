"""A session: one model thread that holds conversations, one after the other, for as long as wanted.

The thread loads the model, waits for `begin`, and steps frame by frame. It may wait for input,
never for a screen or a speaker. Any exception in it ends the session with one `Failed` event.

    session = Session(make_engine)
    session.subscribe(print)              # events, called on the model thread
    session.start()
    session.begin(port, Settings())       # and again for the next conversation
    ...
    session.stop()                        # returns when the thread has ended
"""

import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.errors import MoshiError

from .engine import Engine, MakeEngine, Reply, Talk
from .events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    Failed,
    FrameDone,
    Ready,
    Refused,
    Settings,
    Status,
    Stopped,
)
from .meters import SpeechDetector, StepTimes, peak_db
from .pace import PaceWatch
from .port import Capture, EndOfInput, Port

FADE_SAMPLES = 120  # 5 ms, where input was cut out
POLL_S = 0.05  # how soon a command is seen while no input comes
GREETING_HOLD_FRAMES = 375  # 30 s: the longest that `greeting=False` keeps Moshi silent

Clean = Callable[[np.ndarray, np.ndarray], np.ndarray]
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class _Begin:
    port: Port
    settings: Settings
    clean: Clean | None


class _HangUp:
    pass


class _Stop:
    pass


def splice(heard: np.ndarray) -> np.ndarray:
    """A stretch [n >= 1920] -> its last frame [1920], faded in over the start of what was cut."""
    frame = heard[-FRAME_SAMPLES:].copy()
    if len(heard) > FRAME_SAMPLES:
        rise = np.linspace(0.0, 1.0, FADE_SAMPLES, dtype=np.float32)
        fade = min(FADE_SAMPLES, len(heard) - FRAME_SAMPLES)
        frame[:fade] = frame[:fade] * rise[:fade] + heard[:fade] * (1.0 - rise[:fade])
    return frame


def wait_for_the_system(thread: threading.Thread) -> None:
    """Until the system has ended a thread that Python has joined already; 0.2 s at the most.

    MLX keeps traced functions for each thread and lets go of them in the thread's last moment. An
    interpreter that shuts down at that very moment takes the process down with it (SIGABRT).
    """
    task = Path(f"/proc/self/task/{thread.native_id}")
    if not task.parent.exists():
        time.sleep(0.05)  # macOS doesn't tell
        return
    deadline = time.monotonic() + 0.2
    while task.exists() and time.monotonic() < deadline:
        time.sleep(0.002)


class Session:
    """See the module. Methods may be called from any thread; only `stop` and `join` wait."""

    def __init__(self, make_engine: MakeEngine) -> None:
        self._make_engine = make_engine
        self._commands: queue.SimpleQueue[_Begin | _HangUp | _Stop] = queue.SimpleQueue()
        self._listeners: list[Listener] = []
        self._thread = threading.Thread(target=self.run, name="moshi-model", daemon=True)
        self._conversations = 0
        self.status = Status()
        self.failure: BaseException | None = None
        self.muted = False  # True: the model hears silence

    def subscribe(self, listener: Listener) -> None:
        """Call before `start`."""
        self._listeners.append(listener)

    def start(self) -> None:
        self._thread.start()

    def begin(self, port: Port, settings: Settings, clean: Clean | None = None) -> None:
        """A new conversation on `port` with clean state; one that is running ends first.

        `clean(mic [n], played [n]) -> [n]` takes the echo out, on the model thread.
        """
        self._commands.put(_Begin(port, settings, clean))

    def hang_up(self) -> None:
        """End the conversation; the model stays loaded."""
        self._commands.put(_HangUp())

    def finish(self) -> None:
        """Ask the thread to end, without waiting; listeners may call this."""
        self._commands.put(_Stop())

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread; True when it has ended within `timeout_s`."""
        self.finish()
        return self.join(timeout_s)

    def join(self, timeout_s: float | None = None) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if not self._thread.is_alive():
                wait_for_the_system(self._thread)
        return not self._thread.is_alive()

    def run(self) -> None:
        """The model thread's body; tests on a virtual clock call it directly."""
        try:
            engine = self._load()
            self._serve(engine)
        except BaseException as error:  # thread boundary: told to all; native codecs panic so
            self._fail(error)
        finally:
            if self.status.state != "failed":
                self.status = replace(self.status, state="stopped")
            self._emit(Stopped())

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.status = replace(self.status, state="failed")
        text = str(error).strip().splitlines()
        first = text[0] if text else type(error).__name__
        if not isinstance(error, MoshiError):
            first = f"{type(error).__name__}: {first}"
        self._emit(Failed(first, error))

    def _load(self) -> Engine:
        start = time.monotonic()
        engine = self._make_engine()
        self.status = replace(self.status, state="idle", model=engine.name, recipe=engine.recipe)
        self._emit(Ready(engine.name, engine.recipe, time.monotonic() - start))
        return engine

    def _serve(self, engine: Engine) -> None:
        command = self._commands.get()
        while not isinstance(command, _Stop):
            if isinstance(command, _Begin):
                command = self._converse(engine, command)
            else:
                command = self._commands.get()

    def _converse(self, engine: Engine, begin: _Begin) -> _Begin | _HangUp | _Stop:
        """Hold one conversation; returns the command that ended it."""
        seed = begin.settings.seed
        settings = replace(begin.settings, seed=random.getrandbits(31) if seed is None else seed)
        try:
            talk = engine.begin(settings)
        except MoshiError as error:  # a setting this model can't honour; the session lives
            self._emit(Refused(str(error)))
            return _HangUp()
        self._conversations += 1
        conversation = _Conversation(self._conversations, talk, settings, begin, engine)
        begin.port.flush()
        self._emit(ConversationStarted(conversation.number, talk.seed, settings))
        reason = "failed"
        try:
            while True:
                command = self._next_command()
                if command is not None:
                    reason = _reason(command)
                    return command
                try:
                    capture = begin.port.read(POLL_S)
                except EndOfInput:
                    reason = "end of input"
                    return _HangUp()
                if capture is not None:
                    self._frame(conversation, capture)
        finally:
            talk.close()
            if reason != "failed":
                self.status = replace(self.status, state="idle")
            self._emit(ConversationEnded(conversation.number, reason, conversation.frames))

    def _next_command(self) -> "_Begin | _HangUp | _Stop | None":
        try:
            return self._commands.get_nowait()
        except queue.Empty:
            return None

    def _frame(self, conversation: "_Conversation", capture: Capture) -> None:
        done = conversation.frame(capture, self.muted)
        self.status = conversation.status(done, self.status, self.muted)
        self._emit(done)
        notice = conversation.pace.add(done.step_ms)
        if notice is not None:
            self._emit(notice)


def _reason(command: object) -> str:
    if isinstance(command, _Begin):
        return "new conversation"
    return "stopped" if isinstance(command, _Stop) else "hung up"


class _Conversation:
    """One conversation's state on the model thread: turns captures into replies and figures."""

    def __init__(
        self, number: int, talk: Talk, settings: Settings, begin: _Begin, engine: Engine
    ) -> None:
        self.number, self.settings, self.frames = number, settings, 0
        self._talk, self._port, self._clean, self._engine = talk, begin.port, begin.clean, engine
        self._speech, self._steps = SpeechDetector(), StepTimes()
        self.pace = PaceWatch(engine.recipe)
        self._dropped_samples = 0
        self._hears_speech = False
        self._holding = not settings.greeting

    def frame(self, capture: Capture, muted: bool) -> FrameDone:
        """Clean, step, play; every time is on the port's clock."""
        start_s = self._port.now()
        mic = capture.mic
        if self._clean is not None:
            mic = self._clean(mic, capture.played)
        heard = np.zeros(FRAME_SAMPLES, np.float32) if muted else splice(mic)
        self._hears_speech = self._speech.hears(heard)
        reply = self._step(heard)
        end_s = self._port.now()
        wait_to_sound_s = 0.0 if reply.pcm is None else self._port.play(reply.pcm)
        self._steps.add(1000 * (end_s - start_s))
        self._dropped_samples += capture.dropped_samples
        self.frames += 1
        return FrameDone(
            conversation=self.number,
            index=self.frames - 1,
            heard=heard,
            reply=reply.pcm,
            text=reply.text,
            text_token=reply.text_token,
            step_ms=1000 * (end_s - start_s),
            wait_ms=1000 * (start_s - capture.captured_s),
            lag_ms=1000 * (end_s - capture.captured_s + wait_to_sound_s),
            dropped_frames=self._dropped_samples / FRAME_SAMPLES,
            dropped_now_samples=capture.dropped_samples,
            captured_s=capture.captured_s,
        )

    def _step(self, heard: np.ndarray) -> Reply:
        if self._holding:
            self._holding = not self._hears_speech and self.frames < GREETING_HOLD_FRAMES
        return self._talk.step(heard, hold=True) if self._holding else self._talk.step(heard)

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
