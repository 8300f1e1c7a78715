"""The parts of the chat's screen: title line, transcript, level meters, figures."""

from collections import deque
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from moshi_mlx.clock import FRAME_MS, FRAME_SECONDS

from ..events import Status
from ..talk.chat import Snapshot
from ..talk.ending import clock
from .transcript import LINES_KEPT, TranscriptLine

FLOOR_DB = -60.0  # the meters' left end; the right one is full scale
FALL_DB = 2.0  # how far a meter falls in one picture: 25 dB a second
PEAK_PICTURES = 15  # how long a peak stays marked
LABEL, VALUE = 8, 10  # columns left and right of a meter
EIGHTHS = " ▏▎▍▌▋▊▉"
TITLE = "● moshi"
STATES = {"loading": "loading …", "idle": "waiting", "failed": "failed", "stopped": "over"}


class ScreenRow(Static):
    """One line in its place: drawn where it has changed, and the screen isn't laid out again."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._shown = Content("")

    def put(self, content: Content) -> None:
        if not content.is_same(self._shown):
            self._shown = content
            self.update(content, layout=False)


class Banner(ScreenRow):
    """Which model, what it is doing, since when."""

    DEFAULT_CSS = """
    Banner { height: 1; padding: 0 1; background: $surface; }
    """

    def show(self, snapshot: Snapshot) -> None:
        talk, parts = snapshot.talk, []
        if snapshot.recording:
            parts.append(("   ● recording", "$error"))
        if snapshot.sound.lost:
            parts.append(("   no sound device", "$error"))
        if snapshot.sound.asked:
            parts.append(("   may the microphone be used?", "$error"))
        right = STATES.get(talk.state) or clock(talk.frames * FRAME_SECONDS)
        room = self.size.width - len(TITLE) - sum(len(text) for text, _ in parts) - len(right)
        if name := next((name for name in model_names(talk) if len(name) + 4 <= room), ""):
            parts.insert(0, (f"   {name}", "$dim"))
        left = Content.assemble((TITLE, "bold $primary"), *parts)
        gap = max(1, self.size.width - 2 - left.cell_length - len(right))
        self.put(Content.assemble(left, " " * gap, (right, "$dim")))


def model_names(talk: Status) -> list[str]:
    """What is running, in as many words as there are and in fewer, for less room."""
    if not talk.model:
        return []
    parts = [name for name in (talk.model, talk.recipe, talk.adapter) if name]
    short = [name.rpartition("/")[2] for name in parts]
    return [" · ".join(parts), " · ".join(short), short[0]]


class Words(VerticalScroll, can_focus=True):
    """The transcript. It follows the newest line unless scrolled up."""

    DEFAULT_CSS = """
    Words { height: 1fr; margin: 1 0 0 0; padding: 0 1; scrollbar-size-vertical: 1;
            background: $background; scrollbar-background: $background;
            scrollbar-background-hover: $background; scrollbar-background-active: $background;
            scrollbar-color: $trough; scrollbar-color-hover: $dim;
            scrollbar-color-active: $primary; }
    Words #hint { color: $dim; text-align: center; padding: 1 2; }
    """

    HINT = "Say hello. Moshi listens while it speaks: interrupt it whenever you like."

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._rows: deque[Paragraph] = deque()

    def compose(self) -> ComposeResult:
        yield Static(self.HINT, id="hint")

    def on_mount(self) -> None:
        self.anchor()

    def put(self, line: TranscriptLine, new: bool) -> None:
        """Add a line, or draw a changed one again; the oldest of very many goes."""
        if not new:
            next(row for row in reversed(self._rows) if row.line is line).draw()
            return
        if line.kind in ("moshi", "you"):
            self.query("#hint").remove()
        self._rows.append(Paragraph(line))
        self.mount(self._rows[-1])
        if len(self._rows) > LINES_KEPT:
            self._rows.popleft().remove()


class Paragraph(Horizontal):
    """One line of the transcript: its time and who speaks at the left, the text wrapped beside.

    The last one has the same margin: where a rule asks for `:last-child`, Textual styles all
    lines again for each new one.
    """

    DEFAULT_CSS = """
    Paragraph { height: auto; margin: 0 0 1 0; }
    Paragraph .time { width: 7; text-align: right; padding-right: 2; }
    Paragraph .who { width: 7; }
    Paragraph .text { width: 1fr; }
    Paragraph.you .text { color: $secondary; }
    Paragraph.note .text { color: $dim; text-align: center; }
    Paragraph.alarm .text { color: $error; text-align: center; }
    """

    WHO: ClassVar = {"moshi": ("Moshi", "primary"), "you": ("You", "secondary")}

    def __init__(self, line: TranscriptLine) -> None:
        super().__init__(classes=line.kind)
        self.line = line
        self._text = Static(Content(line.text), classes="text")

    def compose(self) -> ComposeResult:
        if self.line.kind in self.WHO:
            name, colour = self.WHO[self.line.kind]
            yield Static(Content.styled(self.line.clock, "$dim"), classes="time")
            yield Static(Content.styled(name, f"bold ${colour}"), classes="who")
        yield self._text

    def draw(self) -> None:
        self._text.update(Content(self.line.text))


class Meter(Widget):
    """A voice's level in dBFS: label, bar with its peak, value or a word in its place."""

    DEFAULT_CSS = """
    Meter { height: 1; margin: 0 1; }
    """

    def __init__(self, label: str, colour: str, id: str) -> None:
        super().__init__(id=id)
        self._label, self._colour = label, colour
        self._level_db = self._peak_db = FLOOR_DB
        self._age = 0
        self._word: str | None = None

    def show(self, level_db: float, word: str | None = None) -> None:
        before = (self._level_db, self._peak_db, self._word)
        level_db = max(FLOOR_DB, min(0.0, level_db))
        self._level_db = max(level_db, self._level_db - FALL_DB, FLOOR_DB)
        self._age += 1
        if level_db >= self._peak_db or self._age > PEAK_PICTURES:
            self._peak_db, self._age = max(level_db, FLOOR_DB), 0
        self._word = word
        if (self._level_db, self._peak_db, self._word) != before:
            self.refresh()

    def render(self) -> Text:
        colours = self.app.theme_variables
        colour, trough = colours[self._colour], colours["trough"]
        room = max(4, self.size.width - LABEL - VALUE)
        text = Text(no_wrap=True).append(f"{self._label:<{LABEL}}", style=f"bold {colour}")
        filled = (self._level_db - FLOOR_DB) / -FLOOR_DB * room
        whole, part = int(filled), int(filled % 1 * 8)
        line = "█" * whole + (EIGHTHS[part] if whole < room and part else "")
        text.append(line, style=f"{colour} on {trough}")
        rest = " " * (room - len(line))
        peak = int((self._peak_db - FLOOR_DB) / -FLOOR_DB * (room - 1)) - len(line)
        if self._peak_db > FLOOR_DB and 0 <= peak < len(rest):
            text.append(rest[:peak], style=f"on {trough}")
            text.append("▕", style=f"{colour} on {trough}")
            rest = rest[peak + 1 :]
        text.append(rest, style=f"on {trough}")
        value = f"{self._level_db:.0f} dB" if self._level_db > FLOOR_DB else "quiet"
        text.append(f"{self._word or value:>{VALUE}}", style=colours["dim"])
        return text


class Figures(ScreenRow):
    """The status line: as many figures as fit, the important ones first."""

    DEFAULT_CSS = """
    Figures { height: 1; padding: 0 1; color: $dim; }
    """

    def show(self, snapshot: Snapshot) -> None:
        room, chosen = self.size.width - 2, []
        for text, style in figures(snapshot):
            room -= len(text) + 3
            if room < -3:
                break
            chosen += [(" · ", "$trough"), (text, style)]
        self.put(Content.assemble(*chosen[1:]))


def figures(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Text and style of each figure, the important ones first."""
    talk, sound = snapshot.talk, snapshot.sound
    if talk.frames == 0:
        return [("no figures yet", "$dim")]
    slow = "$error" if talk.step_ms_p50 > FRAME_MS else "$dim"
    late = "$error" if talk.lag_ms > 320 else "$dim"
    lost = "$warning" if talk.dropped_frames else "$dim"
    frame = f"frame {talk.step_ms_p50:.0f} p95 {talk.step_ms_p95:.0f} of {FRAME_MS:.0f} ms"
    rows = [
        (frame, slow),
        (f"lag {talk.lag_ms:.0f} ms", late),
        (f"dropped {talk.dropped_frames:.0f}", lost),
        (f"buffer {talk.buffer_ms:.0f} ms", "$dim"),
        (f"memory {memory(talk.memory_bytes)}", "$dim"),
        (f"echo {snapshot.echo}", "$dim"),
    ]
    if sound.xruns:
        rows.append((f"xruns {sound.xruns}", "$dim"))
    return rows


def memory(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.0f} MB"
