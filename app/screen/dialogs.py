"""What opens over the chat: the choice of devices, and the keys explained."""

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList, Static
from textual.widgets.option_list import Option

from ..audio.devices.device import Device

Result = TypeVar("Result")
SYSTEM = "the system's"
HELP = (
    ("m", "mute: Moshi hears silence, and goes on"),
    ("n, Ctrl-N", "a new conversation at once, with a new seed"),
    ("r", "record: sound, transcript and timings, or stop"),
    ("s", "save the talk, to go on with it another day"),
    ("d", "choose microphone and speaker"),
    ("t", "light or dark"),
    ("q, Ctrl-C", "quit"),
    ("↑ ↓", "scroll the transcript; End follows it again"),
)


class Dialog(ModalScreen[Result]):
    """A box in the middle, the chat dimmed behind it."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog .dialog { width: 64; max-width: 95%; height: auto; max-height: 90%; padding: 1 2;
                     background: $surface; border: round $primary; overflow-y: auto; }
    Dialog .title { text-style: bold; margin-bottom: 1; }
    Dialog .hint { color: $dim; margin-top: 1; }
    """

    def close(self, result: Result) -> None:
        """Once: keys and clicks that were on their way by then close nothing more."""
        if self.is_current:
            self.dismiss(result)


class Keys(Dialog[None]):
    """The keys; any key closes it."""

    def __init__(self, devices: bool) -> None:
        """`devices`: there are some to choose."""
        super().__init__()
        self._keys = [(key, text) for key, text in HELP if devices or key != "d"]

    def compose(self) -> ComposeResult:
        width = max(len(key) for key, _ in self._keys)
        with Vertical(classes="dialog"):
            yield Label("Keys", classes="title")
            for key, text in self._keys:
                yield Static(f"[bold $primary]{key:<{width}}[/]   {text}")
            yield Static(
                "frame: time to encode, think and decode 80 ms of speech. lag: from your words'"
                " end to the sound that depends on them, without the model's own 80 ms delay."
                " dropped: frames of yours left out to catch up.",
                classes="hint",
            )

    def on_key(self, event: Key) -> None:
        event.stop()  # it closes this, and does nothing to the talk behind it
        self.close(None)

    def on_click(self) -> None:
        self.close(None)


class DevicePicker(Dialog[tuple[str | None, str | None] | None]):
    """Microphone and speaker; the result is their names, None each for the system's choice.

    Esc, or Enter on what is chosen already, changes nothing.
    """

    DEFAULT_CSS = """
    DevicePicker .wide { width: 100; }
    DevicePicker .dialog Horizontal { height: auto; }
    DevicePicker .dialog Horizontal Vertical { height: auto; width: 1fr; padding-right: 1; }
    DevicePicker .dialog OptionList { height: auto; max-height: 14; background: $surface;
                                      border: none; }
    DevicePicker .small { color: $dim; }
    """
    BINDINGS: ClassVar = [("escape", "leave", "leave"), ("d", "leave", "leave")]

    def __init__(self, devices: Sequence[Device], chosen: tuple[str | None, str | None]) -> None:
        super().__init__()
        self._names = (
            [d.name for d in devices if d.inputs > 0],
            [d.name for d in devices if d.outputs > 0],
        )
        self._defaults = (
            next((d.name for d in devices if d.default_input), None),
            next((d.name for d in devices if d.default_output), None),
        )
        self._chosen = list(chosen)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Label("Devices", classes="title")
            with Horizontal():
                for side, title in enumerate(("Microphone", "Speaker")):
                    with Vertical():
                        yield Label(title, classes="small")
                        yield OptionList(*self._options(side), id=title.lower())
            yield Static("Enter chooses · Tab changes sides · Esc leaves", classes="hint")

    def _options(self, side: int) -> list[Option]:
        default = self._defaults[side]
        first = f"{SYSTEM}: {default}" if default else SYSTEM
        rows = [(None, first), *((name, name) for name in self._names[side])]
        mark = lambda name: "● " if name == self._chosen[side] else "  "  # noqa: E731
        return [Option(mark(name) + text) for name, text in rows]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        side = 0 if event.option_list.id == "microphone" else 1
        row = event.option_index
        name = None if row == 0 else self._names[side][row - 1]
        changed = name != self._chosen[side]
        self._chosen[side] = name
        self.close((self._chosen[0], self._chosen[1]) if changed else None)

    def action_leave(self) -> None:
        self.close(None)
