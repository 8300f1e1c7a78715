"""What the screen's transcript says: Moshi's words, when the user spoke, notices; plain data.

Lines are only added and the newest of a kind changed, so a screen redraws little; the oldest go
when there are many, so a talk of hours takes no more memory than one of minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from moshi_mlx.clock import FRAME_SECONDS

from ..events import (
    ConversationStarted,
    Event,
    Failed,
    FrameDone,
    Notice,
    Ready,
    Refused,
    Status,
    UserWord,
)

PAUSE_FRAMES = 15  # 1.2 s without a word: the next one begins a new paragraph
LINES_KEPT = 120  # the recording has the rest
SPEECH_FRAMES = 4  # shorter noises aren't shown as speech
FRAMES_A_BAR = 2  # one bar of the user's line stands for 160 ms
BARS_KEPT = 24
NOTES_KEPT = 8  # that are counted when they come again
YOURS_KEPT = 4  # lines that late words still find
EARLY_S = 1.0  # a word may begin so much before its speech was noticed
BARS = "▁▂▃▄▅▆▇█"
FLOOR_DB, TOP_DB = -32.0, -2.0
ALARMS = (
    *("too-slow", "machine-busy", "device-lost", "microphone-silent"),
    *("recording-failed", "save-failed", "persona-fades"),
)


@dataclass
class TranscriptLine:
    """`kind`: "moshi", "you", "note" or "alarm"; `at_s` into the conversation, None for none."""

    kind: str
    text: str
    at_s: float | None = None

    @property
    def clock(self) -> str:
        """As m:ss, or "" without a time."""
        if self.at_s is None:
            return ""
        return f"{int(self.at_s) // 60}:{int(self.at_s) % 60:02}"


@dataclass
class _Told:
    """A notice on the screen, and how often it came."""

    text: str
    line: TranscriptLine
    times: int = 1


@dataclass
class _Yours:
    """A time that the user spoke: its line, since when, and what is known of his words."""

    line: TranscriptLine
    since_s: float
    words: str = ""


def bar(level_db: float) -> str:
    """One character for a loudness."""
    share = (level_db - FLOOR_DB) / (TOP_DB - FLOOR_DB)
    return BARS[max(0, min(len(BARS) - 1, round(share * (len(BARS) - 1))))]


class TalkTranscript:
    """Takes events and snapshots. `changed(line, new)` is called for each line made or changed."""

    def __init__(self, changed: Callable[[TranscriptLine, bool], None]) -> None:
        self._changed = changed
        self._notes: list[_Told] = []  # since somebody has last said something
        self._conversation: int | None = None
        self._earlier: list[_Yours] = []  # of the conversation before: its last words come late
        self._forget()

    def _forget(self) -> None:
        self._notes = []
        self._moshi: TranscriptLine | None = None  # the paragraph under way
        self._last_word = 0
        self._you: TranscriptLine | None = None
        self._yours: list[_Yours] = []  # the last times that the user spoke
        self._speech_since: int | None = None
        self._levels_db: list[float] = []

    def show(self, event: Event) -> None:
        """One event of the chat's inbox."""
        if isinstance(event, FrameDone):
            self._word(event)
        elif isinstance(event, UserWord):
            self._user_word(event)
        elif isinstance(event, Ready):
            self._note(f"{event.title} is ready")
        elif isinstance(event, ConversationStarted):
            self._conversation, self._earlier = event.number, self._yours
            self._forget()
            self._note(f"conversation {event.number} · seed {event.seed}")
        elif isinstance(event, Notice):
            self._note(event.message, "alarm" if event.kind in ALARMS else "note")
        elif isinstance(event, Refused | Failed):
            self._note(event.message, "alarm")

    def _note(self, text: str, kind: str = "note") -> None:
        """What is told again and again, about a device that comes and goes, is one with a count."""
        self._moshi = None
        line = next((told for told in self._notes if told.text == text), None)
        if line is None:
            self._notes = [*self._notes, _Told(text, TranscriptLine(kind, text))][-NOTES_KEPT:]
            self._changed(self._notes[-1].line, True)
            return
        line.times += 1
        line.line.text = f"{text} ({line.times} times)"
        self._changed(line.line, False)

    def _word(self, done: FrameDone) -> None:
        self._notes = []
        paused = done.index - self._last_word > PAUSE_FRAMES
        self._last_word = done.index
        if self._moshi is None or paused:
            self._moshi = TranscriptLine("moshi", done.text.lstrip(), done.index * FRAME_SECONDS)
            self._changed(self._moshi, True)
            return
        self._moshi.text += done.text
        self._changed(self._moshi, False)

    def _user_word(self, word: UserWord) -> None:
        """Where his speech was seen: in place of its bars. Words come later than they are said."""
        late = self._conversation not in (None, word.conversation)
        known = self._earlier if late else self._yours
        begun = [yours for yours in known if yours.since_s <= word.at_s + EARLY_S]
        if late and not begun:  # it would stand among what is said now
            return
        new = not begun
        if new:
            line = TranscriptLine("you", "", word.at_s)
            self._yours = [_Yours(line, word.at_s), *self._yours]
            begun = self._yours[:1]
        yours = begun[-1]
        yours.words = f"{yours.words} {word.text}".lstrip()
        yours.line.text = yours.words
        self._changed(yours.line, new)

    def hear(self, talk: Status) -> None:
        """A snapshot: is the user speaking, and how loud."""
        if not talk.speech or talk.muted or talk.state != "talking":
            self._you, self._speech_since, self._levels_db = None, None, []
            return
        if self._speech_since is None or talk.frames < self._speech_since:
            self._speech_since = talk.frames
        self._levels_db.append(talk.user_level_db)
        spoken = talk.frames - self._speech_since
        if spoken < SPEECH_FRAMES:
            return
        new = self._you is None
        if self._you is None:
            self._notes = []
            self._you = TranscriptLine("you", "", self._speech_since * FRAME_SECONDS)
            self._moshi = None  # what Moshi says next stands below
            yours = _Yours(self._you, self._speech_since * FRAME_SECONDS)
            self._yours = [*self._yours, yours][-YOURS_KEPT:]
        bars = f"{self._bars()}  {spoken * FRAME_SECONDS:.1f} s"
        words = self._yours[-1].words
        self._you.text = f"{words}  {bars}" if words else bars
        self._changed(self._you, new)

    def _bars(self) -> str:
        pairs = range(0, len(self._levels_db) - FRAMES_A_BAR + 1, FRAMES_A_BAR)
        bars = [bar(max(self._levels_db[i : i + FRAMES_A_BAR])) for i in pairs]
        return ("…" if len(bars) > BARS_KEPT else "") + "".join(bars[-BARS_KEPT:])
