"""One voice chat as a screen sees it: a session, its sound and its recorder, behind few methods.

The contract for screens. Make a `Chat`, take an `Inbox` of it, call `start`; then, from any one
thread (a Textual app's, the plain loop's):

    chat.snapshot()            every figure to show, frozen; cheap, read it at 12.5 Hz at most
    inbox.get(timeout_s)       the next event worth showing, or None: Ready, ConversationStarted,
    inbox.drain()              FrameDone (those with text only), Notice, Refused, ConversationEnded,
                               Failed, Stopped, as in events.py; `drain` never waits
    chat.mute(on=None)         True, False, or toggle: the model hears silence and goes on
    chat.new_conversation()    at once, clean state, a new seed (told in ConversationStarted)
    chat.keep()                save the talk of this moment, to be resumed; told by a Notice
    chat.record(on=None)       start or stop writing to `chat.folder`; returns the new state
    chat.devices()             what can be chosen, as list[Device]; [] for virtual devices
    chat.choose(input, output) device names, None for "follow the system"; the talk goes on

The talk is over when `chat.over` is True (the input's end, a failure, `chat.quit()`): leave the
screen then. The caller ends with `chat.close()`, which is safe at any moment and twice, and
`chat.failure` is one line or None. None of this waits but `close`, and nothing here raises but
`record` (AudioError: a folder that can't be made).
"""

import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from moshi_mlx.errors import MoshiError

from ..audio.devices.device import Device
from ..audio.sound import Sound, SoundState
from ..echo.choice import make_clean
from ..events import (
    ConversationEnded,
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
from ..machine.power import Power, brakes
from ..machine.readers import power as read_power
from ..provenance.index_writer import IndexWriter
from ..provenance.marking import MACHINE_LINE, UNMARKED
from ..provenance.seal import Seal
from ..recording.recorder import Recorder
from .engine import MakeEngine
from .keeping import TalkKeeper
from .kept_talk import AskedModel, anew, note_of
from .session import SaveRequest, TalkSession
from .takes import Takes

REPORT = "a bug: please report it with what `moshi doctor --json` says"
LAST_STEP_S = 0.25  # the model's last step, whose sound is still played
SOON_S = 1.5  # what a signal leaves to a talk, within the 2 s to the end of the process
FLAC_SOON_S = 0.8  # of it, for a recording that is to become a flac
LAST_WORDS_S, WORDS_SOON_S = 3.0, 0.4  # for the user's last words
SAVE_SOON_S = 0.3  # of it, for a talk that is being saved
SAVE_S = 60.0  # what a talk that is being saved gets otherwise
INBOX_EVENTS = 4096  # a screen that looks away for longer loses the oldest


@dataclass(frozen=True)
class Snapshot:
    """All that a status line needs."""

    talk: Status
    sound: SoundState
    recording: bool
    folder: Path | None  # of the recording under way
    echo: str


class Inbox:
    """Events for a screen, bounded: the oldest go when nobody looks."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Event] = queue.Queue(INBOX_EVENTS)

    def __call__(self, event: Event) -> None:
        """Any thread; never waits."""
        if isinstance(event, FrameDone) and not event.text:
            return
        while True:
            try:
                return self._queue.put_nowait(event)
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue

    def get(self, timeout_s: float) -> Event | None:
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def drain(self) -> list[Event]:
        events = []
        while True:
            try:
                events.append(self._queue.get_nowait())
            except queue.Empty:
                return events


@dataclass(frozen=True)
class ChatOptions:
    """How the chat is to be held.

    record: a folder to record to from the start; seal: what finished recordings get; index: where
    landmarks of Moshi's sound go, None for nowhere; words: makes what writes down the user's own
    words, given whom to tell them; source: how the model was asked for, for talks that are saved.
    """

    settings: Settings = field(default_factory=Settings)
    echo: str = "auto"
    record: Path | None = None
    flac: bool = False
    folder: Path = Path("moshi-talks")  # where is written when nothing else was said
    seal: Seal | None = None
    index: Path | None = None
    words: "Callable[[Callable[[Event], None]], Beside] | None" = None
    source: AskedModel = field(default_factory=AskedModel)


class Beside(Protocol):
    """A session listener that has an end of its own."""

    def __call__(self, event: Event) -> None: ...
    def close(self, timeout_s: float) -> None: ...


class Chat:
    """See the module."""

    def __init__(
        self,
        make_engine: MakeEngine,
        sound: Sound,
        options: ChatOptions,
        read_power: Callable[[], Power] = read_power,
    ) -> None:
        """Raises MoshiError for an unknown echo mode and an index of no use, AudioError for a
        folder.

        `read_power`: asked once the machine turns out too slow.
        """
        self._read_power = read_power
        self.session = TalkSession(make_engine)
        self.sound, self.options = sound, options
        self.folder = options.record or options.folder
        self._settings = options.settings
        self._listeners: list[Callable[[Event], None]] = []
        self._ready: Ready | None = None
        self._failed: str | None = None
        self._over = threading.Event()
        self._closing, self._opening = threading.Lock(), threading.Lock()
        self._closed: bool | None = None  # whether the model's thread has ended
        self._hurried = False
        self._takes = Takes(self._make_recorder, options.words is not None)
        self._clean()
        self._keeper = TalkKeeper(self.folder, self._tell)
        self._index = None if options.index is None else IndexWriter(options.index, self._tell)
        self.session.subscribe(self._on_event)
        if self._index is not None:
            self.session.subscribe(self._index)
        self._words = None if options.words is None else options.words(self._tell_recorded)
        if self._words is not None:
            self.session.subscribe(self._words)
        sound.subscribe(self._tell)
        if options.record is not None:
            self.record(True)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call before `start`; called on other threads, must return at once."""
        self._listeners.append(listener)

    def inbox(self) -> Inbox:
        """Call before `start`."""
        inbox = Inbox()
        self.subscribe(inbox)
        return inbox

    def start(self) -> None:
        """Open the sound, load the model, begin. Raises AudioError when there is no device."""
        with self._opening:
            if self.over:  # ended before it began: no device is opened any more
                return
            self.sound.start()
        self.session.start()
        self._begin()

    def _begin(self) -> None:
        self.session.begin(self.sound, self._settings, self._clean())

    def _clean(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        return make_clean(self.options.echo, lambda: self.sound.state().headphones)

    def new_conversation(self) -> None:
        self._settings = anew(self._settings)
        self._begin()

    def mute(self, on: bool | None = None) -> bool:
        return self.session.mute(not self.session.muted if on is None else on)

    def record(self, on: bool | None = None) -> bool:
        return self._takes.switch(on)

    def _make_recorder(self) -> Recorder:
        return Recorder(self.folder, self.options.flac, self._tell, self.options.seal)

    def keep(self) -> None:
        if not self._keeper.reserve():
            self._tell(Notice("save-failed", "the talk is being saved already"))
            return
        note = lambda settings: note_of(self.options.source, settings)  # noqa: E731
        self.session.keep(SaveRequest(note, self._keeper.take, self._keeper.refuse))

    @property
    def kept(self) -> list[Path]:
        """Every talk saved so far."""
        return list(self._keeper.kept)

    def devices(self) -> list[Device]:
        return list(self.sound.devices())

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        self.sound.choose(input_name, output_name)

    def quit(self) -> None:
        self._over.set()
        self.session.finish()

    @property
    def over(self) -> bool:
        return self._over.is_set() or self.sound.problem() is not None

    @property
    def failure(self) -> str | None:
        """One line, when something failed: the model, the sound, or else a recording."""
        return self._failed or self.sound.problem() or self._takes.failure

    def snapshot(self) -> Snapshot:
        on, folder = self._takes.on, self._takes.folder
        return Snapshot(self.session.status, self.sound.state(), on, folder, self.options.echo)

    def close(self, timeout_s: float = 5.0) -> bool:
        """End every thread, finish the recording; False when the model's thread hangs.

        Devices come first: nobody is listened to longer than needed. From any thread; the first
        call does it, later ones wait for it.
        """
        self.quit()
        with self._closing:
            if self._closed is None:
                self._closed = self._close(timeout_s)
            return self._closed

    def close_soon(self) -> None:
        """`close` within SOON_S: the process is about to be ended."""
        self._hurried = True
        self.close(SOON_S / 2)

    def _close(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        self.session.join(min(timeout_s, LAST_STEP_S))
        # a start that hangs is left alone in the end
        opened = self._opening.acquire(timeout=timeout_s)
        self.sound.stop()
        if opened:
            self._opening.release()
        ended = self.session.join(max(0.0, until_s - time.monotonic()))
        if self._words is not None:
            self._words.close(WORDS_SOON_S if self._hurried else LAST_WORDS_S)
        self._keeper.close(SAVE_SOON_S if self._hurried else SAVE_S)
        self._takes.close(FLAC_SOON_S if self._hurried else math.inf)
        if self._index is not None:
            self._index.close()
        return ended

    @property
    def ready(self) -> Ready | None:
        """The model, once it is loaded."""
        return self._ready

    @property
    def takes(self) -> list[Path]:
        """Every recording made so far, one folder for each."""
        return self._takes.folders

    @property
    def unsigned(self) -> dict[Path, str]:
        """Why a recording isn't signed, one line, where somebody would expect it to be."""
        return self._takes.unsigned

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _tell_recorded(self, event: Event) -> None:
        """What isn't the session's, and belongs into a recording all the same."""
        self._takes.beside(event)
        self._tell(event)

    def _tell_brakes(self) -> None:
        """What slows the machine down, where it says so; asking takes a second or two."""
        for line in brakes(self._read_power()):
            self._tell(Notice("power", line))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._ready = event
        self._takes(event)
        if isinstance(event, Failed):
            known = isinstance(event.error, MoshiError)
            self._failed = event.message if known else f"{event.message} ({REPORT})"
        if isinstance(event, Refused):  # settings that this model can't honour
            self._failed = event.message
        self._tell(event)
        if isinstance(event, Ready):
            self._tell(Notice("machine", MACHINE_LINE))
            if event.mark == "none":
                self._tell(Notice("unmarked", UNMARKED))
        if isinstance(event, Notice) and event.kind == "too-slow":
            threading.Thread(target=self._tell_brakes, name="moshi-power", daemon=True).start()
        ends = isinstance(event, ConversationEnded) and event.reason == "end of input"
        if ends or isinstance(event, Failed | Refused | Stopped):
            self._over.set()
