"""A session: one model thread that holds conversations, one after the other, for as long as wanted.

The thread loads the model, waits for `begin`, and steps frame by frame. It may wait for input,
never for a screen or a speaker. Any exception in it, or in decoding beside it, ends the session
with one `Failed` event.

    session = TalkSession(make_engine)
    session.subscribe(print)              # events, one at a time and in order, see `events`
    session.start()
    session.begin(port, Settings())       # and again for the next conversation
    ...
    session.stop()                        # returns when the thread has ended
"""

import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from moshi_mlx.errors import MoshiError

from ..audio.stream.port import EndOfInput, Port
from ..events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    Failed,
    FrameDone,
    Notice,
    Ready,
    Refused,
    Settings,
    Status,
    Stopped,
)
from .conversation import Clean, Conversation, Stepped
from .engine import Engine, MakeEngine, TalkFile

POLL_S = 0.05  # how soon a command is seen while no input comes
KEEP_WARM_EVERY_S = 0.5
POLLS_A_BEAT = round(KEEP_WARM_EVERY_S / POLL_S)
WARM_BEATS = 1200  # ten minutes after the last talk a model may go cold

FADES = (
    "The persona is leaving what Moshi remembers: who it is and how it sounds may fade. "
    "Begin anew, or with --keep-prompt, which keeps it"
)

NO_TALK = "there is no talk to save"

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class _Begin:
    port: Port
    settings: Settings
    clean: Clean | None


@dataclass(frozen=True)
class SaveRequest:
    """What is to be done with the talk of this moment; called on the model thread, at once.

    note: of the settings of the talk and its seed; take: with its file and its number; refuse: with
    one line.
    """

    note: Callable[[Settings], str]
    take: Callable[[TalkFile, int], None]
    refuse: Callable[[str], None]


class _HangUp:
    pass


class _Stop:
    pass


def wait_for_the_system(thread: threading.Thread) -> None:
    """Until the system has ended a thread that Python has joined already; 2 s at the most.

    MLX keeps traced functions for each thread and lets go of them in the thread's last moment. An
    interpreter that shuts down at that very moment takes the process down with it (SIGABRT).
    """
    task = Path(f"/proc/self/task/{thread.native_id}")
    if not task.parent.exists():
        time.sleep(0.05)  # macOS doesn't tell
        return
    deadline = time.monotonic() + 2.0
    while task.exists() and time.monotonic() < deadline:
        time.sleep(0.002)


class TalkSession:
    """See the module. Methods may be called from any thread; only `stop` and `join` wait."""

    def __init__(self, make_engine: MakeEngine, warm_beats: int = WARM_BEATS) -> None:
        """`warm_beats`: how often an idle model is kept warm, twice a second."""
        self._make_engine, self._warm_beats = make_engine, warm_beats
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._listeners: list[Listener] = []
        self._thread = threading.Thread(target=self.run, name="moshi-model", daemon=True)
        self._conversations = 0
        self.status = Status()
        self.failure: BaseException | None = None
        self._muted = False

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

    @property
    def muted(self) -> bool:
        """Whether the model hears silence."""
        return self._muted

    def mute(self, on: bool) -> bool:
        """From the next frame on; returns `on`."""
        self._muted = on
        return on

    def keep(self, keep: SaveRequest) -> None:
        """The talk as it is before its next frame, which goes on; refused where there is none."""
        self._commands.put(keep)

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
        took_s = time.monotonic() - start
        ready = Ready(
            *(engine.name, engine.recipe, took_s, engine.mark, engine.revision, engine.adapter),
            personas=engine.personas,
            voices=engine.voices,
            adapters=engine.adapters,
        )
        self.status = replace(
            self.status,
            state="idle",
            model=ready.model,
            recipe=ready.recipe,
            adapter=ready.adapter,
        )
        self._emit(ready)
        return engine

    def _serve(self, engine: Engine) -> None:
        command = self._await_command(engine)
        while not isinstance(command, _Stop):
            if isinstance(command, _Begin):
                command = self._converse(engine, command)
            else:
                if isinstance(command, SaveRequest):
                    command.refuse(NO_TALK)
                command = self._await_command(engine)

    def _await_command(self, engine: Engine) -> "_Command":
        """The next command; the model stays warm meanwhile, for a time."""
        for _ in range(self._warm_beats):
            with contextlib.suppress(queue.Empty):
                return self._commands.get(timeout=KEEP_WARM_EVERY_S)
            engine.keep_warm()
        return self._commands.get()

    def _converse(self, engine: Engine, begin: _Begin) -> "_Command":
        """Hold one conversation; returns the command that ended it."""
        seed = begin.settings.seed
        settings = replace(begin.settings, seed=random.getrandbits(31) if seed is None else seed)
        try:
            talk = engine.begin(settings)
        except MoshiError as error:  # a setting this model can't honour; the session lives
            self._emit(Refused(str(error)))
            return _HangUp()
        self._conversations += 1
        port, clean = begin.port, begin.clean
        conversation = Conversation(
            self._conversations, talk, settings, port, clean, engine, self._frame_done
        )
        port.flush()
        self.status = replace(self.status, adapter=settings.adapter or engine.adapter)
        self._emit(ConversationStarted(conversation.number, talk.seed, settings))
        for note in talk.notes:
            self._emit(Notice("persona", note))
        reason = "failed"
        try:
            try:
                command, ended = self._hold(conversation, engine)
            finally:
                talk.close()  # sound that is still to come comes first
            conversation.check()
            reason = ended
            return command
        finally:
            if reason != "failed":
                self.status = replace(self.status, state="idle")
            self._emit(ConversationEnded(conversation.number, reason, conversation.frames))

    def _hold(self, conversation: Conversation, engine: Engine) -> "tuple[_Command, str]":
        """Frame by frame, to the command that ends it and the reason to be told."""
        silent_polls = 0
        while True:
            conversation.check()
            command = self._next_command()
            if isinstance(command, SaveRequest):
                self._keep(command, conversation)
            elif command is not None:
                return command, _reason(command)
            try:
                heard = conversation.listen(POLL_S, self.muted)
            except EndOfInput:
                return _HangUp(), "end of input"
            silent_polls = silent_polls + 1 if heard is None else 0
            if heard is not None:
                conversation.frame(heard, self.muted)
            elif silent_polls % POLLS_A_BEAT == 0:  # a device is lost, or being opened
                engine.keep_warm()

    def _keep(self, keep: SaveRequest, conversation: Conversation) -> None:
        """A snapshot; what is done with it is another thread's."""
        try:
            talk = conversation.keep(keep.note(conversation.settings), self.muted)
        except MoshiError as error:
            keep.refuse(f"the talk can't be saved: {error}")
        else:
            keep.take(talk, conversation.number)

    def _next_command(self) -> "_Command | None":
        try:
            return self._commands.get_nowait()
        except queue.Empty:
            return None

    def _frame_done(self, conversation: Conversation, stepped: Stepped, done: FrameDone) -> None:
        """On the model thread, or on the one that decodes; never on both at once."""
        self.status = conversation.status(stepped, done, self.status)
        self._emit(done)
        notice = conversation.pace.add(done.step_ms, done.dropped_now_samples)
        if notice is not None:
            self._emit(notice)
        if done.index == conversation.prompt_until:
            self._emit(Notice("persona-fades", FADES))


_Command = _Begin | SaveRequest | _HangUp | _Stop


def _reason(command: object) -> str:
    if isinstance(command, _Begin):
        return "new conversation"
    return "stopped" if isinstance(command, _Stop) else "hung up"
