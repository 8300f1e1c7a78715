"""`moshi chat` in the terminal: Moshi's words, both voices, the figures, and keys (Textual).

Reads one snapshot and the waiting events 12.5 times a second on the main thread; nothing here can
hold up the sound or the model.
"""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from moshi_mlx.errors import MoshiError

from ..talk.chat import Chat, Inbox
from .dialogs import DevicePicker, Keys
from .theme import DARK, LIGHT
from .transcript import TalkTranscript, TranscriptLine
from .widgets import Banner, Figures, Meter, Words

PICTURES_HZ = 12.5


class ChatScreen(App[None]):
    """Shows a Chat that has been started, until it is over."""

    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-narrow"),
        (60, "-wide"),
    ]
    CSS = """
    #you { margin: 0 1 1 1; }
    .-narrow .time { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "keys", "help", key_display="?"),  # first: they stay in 40 columns
        Binding("q", "leave", "quit"),
        Binding("m", "mute", "mute"),
        Binding("n,ctrl+n", "new", "new talk", key_display="n"),
        Binding("r", "record", "record"),
        Binding("s", "save", "save"),
        Binding("d", "devices", "devices"),
        Binding("t", "theme", "light/dark", show=False),
        Binding("ctrl+c,ctrl+q", "leave", "quit", show=False, priority=True),
        Binding("end", "follow", "follow", show=False),
    ]

    def __init__(self, chat: Chat, inbox: Inbox, light: bool = False) -> None:
        super().__init__()
        self._chat, self._inbox = chat, inbox
        self._transcript = TalkTranscript(self._put)
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = (LIGHT if light else DARK).name

    def compose(self) -> ComposeResult:
        yield Banner(id="banner")
        yield Words(id="words")
        yield Meter("Moshi", "primary", id="moshi")
        yield Meter("You", "secondary", id="you")
        yield Figures(id="figures")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(1 / PICTURES_HZ, self.draw)
        self.query_one(Words).focus()

    def draw(self) -> None:
        """One picture: events first, then every figure from one snapshot."""
        stack = self.screen_stack
        if not stack or not stack[0].query(Figures):  # the screen is being made, or taken down
            return
        base = stack[0]
        snapshot = self._chat.snapshot()
        for event in self._inbox.drain():
            self._transcript.show(event)
        talk = snapshot.talk
        self._transcript.hear(talk)
        base.query_one(Banner).show(snapshot)
        base.query_one("#moshi", Meter).show(talk.moshi_level_db)
        word = "muted" if talk.muted else "speaking" if talk.speech else None
        base.query_one("#you", Meter).show(talk.user_level_db, word)
        base.query_one(Figures).show(snapshot)
        if self._chat.over:
            self.exit()

    def _put(self, line: TranscriptLine, new: bool) -> None:
        self.screen_stack[0].query_one(Words).put(line, new)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`d` is offered where there are devices to choose: not for files."""
        return action != "devices" or bool(self._chat.devices())

    def action_mute(self) -> None:
        self._chat.mute()

    def action_new(self) -> None:
        self._chat.new_conversation()

    def action_record(self) -> None:
        try:
            on = self._chat.record()
        except MoshiError as error:
            self._put(TranscriptLine("alarm", str(error)), True)
            return
        where = f"recording to {self._chat.folder}" if on else "recording ended"
        self._put(TranscriptLine("note", where), True)

    def action_save(self) -> None:
        """A notice says where it is."""
        self._chat.keep()

    def action_devices(self) -> None:
        devices = self._chat.devices()
        if not devices:
            self._put(TranscriptLine("note", "the devices of this talk can't be changed"), True)
            return
        chosen = self._chat.snapshot().sound.chosen
        self.push_screen(DevicePicker(devices, chosen), self._choose)

    def _choose(self, names: tuple[str | None, str | None] | None) -> None:
        if names is not None:
            self._chat.choose(*names)

    def action_theme(self) -> None:
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def action_keys(self) -> None:
        self.push_screen(Keys(bool(self._chat.devices())))

    def action_follow(self) -> None:
        self.query_one(Words).anchor()

    def action_leave(self) -> None:
        self._chat.quit()
        self.exit()


def run_screen(chat: Chat) -> None:
    """Until the talk is over. The terminal is as before when this returns or raises."""
    inbox = chat.inbox()
    chat.start()
    app = ChatScreen(chat, inbox)
    app.run()
    if app.return_code:  # a bug in the screen: Textual has shown its traceback
        raise SystemExit(app.return_code)
