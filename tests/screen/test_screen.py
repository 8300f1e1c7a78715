"""The terminal screen: what it shows, what the keys do, how it ends."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from textual import events
from textual.widget import Widget

from app.audio.devices.device import Device
from app.audio.sound import SoundState
from app.events import ConversationStarted, Notice, Ready, Settings, Status
from app.screen.chat_screen import ChatScreen, run_screen
from app.screen.transcript import LINES_KEPT
from app.screen.widgets import Meter, Paragraph, clock, figures
from app.talk.chat import Inbox, Snapshot
from moshi_mlx.errors import AudioError
from tests.support.screen_events import TALKING, sentence, word
from tests.support.screen_text import lines

GOLDEN = Path(__file__).parents[1] / "golden" / "screen"
MICROPHONE = Device("MacBook Pro Microphone", 0, 1, 0, 48_000, default_input=True)
SPEAKERS = Device("MacBook Pro Speakers", 1, 0, 2, 48_000, default_output=True)
HEADSET = Device("AirPods", 2, 1, 2, 24_000)


@dataclass
class FakeChat:
    """A chat under the test's hand; writes down what the screen asks for."""

    talk: Status = TALKING
    sound: SoundState = field(default_factory=SoundState)
    found: list[Device] = field(default_factory=lambda: [MICROPHONE, SPEAKERS])
    record_error: str | None = None
    failure: str | None = None
    over: bool = False
    recording: bool = False
    folder: Path = Path("moshi-talks")
    calls: list = field(default_factory=list)
    box: Inbox = field(default_factory=Inbox)

    def inbox(self) -> Inbox:
        return self.box

    def start(self) -> None:
        self.calls.append("start")

    def snapshot(self) -> Snapshot:
        return Snapshot(self.talk, self.sound, self.recording, None, "auto")

    def mute(self, on: bool | None = None) -> bool:
        self.calls.append("mute")
        self.talk = replace(self.talk, muted=not self.talk.muted)
        return self.talk.muted

    def new_conversation(self) -> None:
        self.calls.append("new")

    def record(self, on: bool | None = None) -> bool:
        if self.record_error:
            raise AudioError(self.record_error)
        self.calls.append("record")
        self.recording = not self.recording
        return self.recording

    def keep(self) -> None:
        self.calls.append("keep")

    def devices(self) -> list[Device]:
        return self.found

    def choose(self, input_name: str | None, output_name: str | None) -> None:
        self.calls.append(("choose", input_name, output_name))
        self.sound = replace(self.sound, chosen=(input_name, output_name))

    def quit(self) -> None:
        self.calls.append("quit")
        self.over = True


def screen(chat: FakeChat, light: bool = False) -> ChatScreen:
    return ChatScreen(chat, chat.box, light)  # type: ignore


async def settled(app: ChatScreen, pilot) -> list[str]:
    """The screen after the next pictures."""
    for _ in range(3):
        app.draw()
        await pilot.pause(0.1)
    return lines(app)


def talk_of_a_minute(chat: FakeChat) -> None:
    chat.box(Ready("kyutai/moshiko-mlx-q4", "q4", 2.0))
    chat.box(ConversationStarted(1, 42, Settings()))
    for event in sentence(12, "Hello! I am Moshi. What is on your mind today?"):
        chat.box(event)
    chat.box(Notice("device-lost", "AirPods have gone: looking for another device"))
    for event in sentence(
        150, "A film about the sea and the people who live from it, I think, and one"
    ):
        chat.box(event)
    for event in sentence(195, "that everybody should see [twice] at least."):
        chat.box(event)


@pytest.mark.parametrize("size", [(80, 24), (120, 30), (44, 16)])
async def test_the_screen_looks_as_it_was_drawn(size):
    chat = FakeChat()
    talk_of_a_minute(chat)
    app = screen(chat)
    async with app.run_test(size=size) as pilot:
        shown = "\n".join(await settled(app, pilot)) + "\n"
    path = GOLDEN / f"talk_{size[0]}x{size[1]}.txt"
    assert shown == path.read_text(encoding="utf-8"), shown


async def test_a_picture_lays_nothing_out_again_and_draws_what_has_changed(monkeypatch):
    """12.5 times a second, for as long as the talk lasts."""
    asked, refresh = [], Widget.refresh

    def noted(self, *regions, **options):
        asked.append((self.id, options.get("layout", False)))
        return refresh(self, *regions, **options)

    chat = FakeChat()
    talk_of_a_minute(chat)
    app = screen(chat)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        for _ in range(60):  # until the peaks are forgotten
            app.draw()
        monkeypatch.setattr(Widget, "refresh", noted)
        app.draw()
        assert asked == []
        chat.talk = replace(chat.talk, frames=chat.talk.frames + 13, lag_ms=61.0)
        app.draw()
        assert sorted(asked) == [("banner", False), ("figures", False)]


async def test_the_model_is_named_with_its_adapter():
    chat = FakeChat()
    chat.talk = replace(chat.talk, adapter="somebody/pirate")
    chat.box(Ready("kyutai/moshiko-mlx-q4", "q4", 2.0, adapter="somebody/pirate"))
    app = screen(chat)
    async with app.run_test(size=(100, 24)) as pilot:
        shown = await settled(app, pilot)
    assert "kyutai/moshiko-mlx-q4 · q4 · somebody/pirate" in shown[0]
    assert any("kyutai/moshiko-mlx-q4 (q4) with somebody/pirate is ready" in s for s in shown)


async def test_it_fits_again_after_the_terminal_was_resized():
    chat = FakeChat()
    talk_of_a_minute(chat)
    app = screen(chat)
    async with app.run_test(size=(120, 30)) as pilot:
        await settled(app, pilot)
        await pilot.resize_terminal(80, 24)
        await pilot.pause(0.2)
        shown = "\n".join(await settled(app, pilot)) + "\n"
        assert shown == (GOLDEN / "talk_80x24.txt").read_text(encoding="utf-8")
        await pilot.resize_terminal(20, 6)
        await pilot.pause(0.2)
        assert max(map(len, await settled(app, pilot))) <= 20


async def test_every_key_does_what_the_footer_says():
    chat = FakeChat()
    app = screen(chat)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("m", "n", "ctrl+n", "r", "s")
        shown = await settled(app, pilot)
        assert chat.calls == ["mute", "new", "new", "record", "keep"]
        assert any("recording to moshi-talks" in row for row in shown)
        assert "● recording" in shown[0]
        (you,) = [row for row in shown if row.strip().startswith("You")]
        assert you.endswith("muted")
        await pilot.press("question_mark")
        assert any("a new conversation at once" in row for row in await settled(app, pilot))
        await pilot.press("x")
        assert not any("a new conversation at once" in row for row in await settled(app, pilot))
        before = app.theme
        await pilot.press("t")
        assert app.theme != before
        await pilot.press("q")
    assert chat.calls[-1] == "quit" and app.return_code == 0


async def test_ctrl_c_leaves():
    chat = FakeChat()
    app = screen(chat)
    async with app.run_test() as pilot:
        await pilot.press("ctrl+c")
    assert chat.calls == ["quit"]


async def test_devices_are_chosen_by_side_and_go_back_to_the_systems():
    chat = FakeChat(found=[MICROPHONE, SPEAKERS, HEADSET])
    app = screen(chat)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("d")
        shown = "\n".join(await settled(app, pilot))
        assert "the system's: MacBook Pro Speakers" in shown
        assert shown.count("AirPods") == 2
        await pilot.press("down", "down", "enter")  # microphone: system, MacBook, AirPods
        await pilot.press("d", "tab", "down", "enter")  # speaker: system, MacBook
        await pilot.press("d", "enter")  # microphone: back to the system's
        await pilot.press("d", "enter", "d", "escape")  # what is chosen, and nothing
    assert chat.calls == [
        ("choose", "AirPods", None),
        ("choose", "AirPods", "MacBook Pro Speakers"),
        ("choose", None, "MacBook Pro Speakers"),
    ]


async def test_the_other_sides_choice_stays_also_when_the_command_line_made_it():
    chat = FakeChat(found=[MICROPHONE, SPEAKERS, HEADSET])
    chat.sound = SoundState(chosen=("AirPods", None))
    app = screen(chat)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("d")
        assert any("● AirPods" in row for row in await settled(app, pilot))
        await pilot.press("tab", "down", "enter")
    assert chat.calls == [("choose", "AirPods", "MacBook Pro Speakers")]


async def test_the_banner_says_what_keeps_the_talk_from_hearing():
    chat = FakeChat(sound=SoundState(lost=True))
    app = screen(chat)
    async with app.run_test(size=(100, 30)) as pilot:
        assert "no sound device" in (await settled(app, pilot))[0]
        chat.sound = SoundState(asked=True)
        assert "may the microphone be used?" in (await settled(app, pilot))[0]


async def test_devices_that_cannot_be_chosen_are_not_offered():
    chat = FakeChat(found=[])
    app = screen(chat)
    async with app.run_test() as pilot:
        assert not any("d devices" in row for row in await settled(app, pilot))
        await pilot.press("d")
        assert len(app.screen_stack) == 1 and chat.calls == []
        await pilot.press("question_mark")
        assert "choose microphone" not in "".join(await settled(app, pilot)), "nor in the help"


async def test_help_and_quit_stay_where_the_terminal_is_small():
    app = screen(FakeChat())
    async with app.run_test(size=(40, 10)) as pilot:
        first, *_, last = await settled(app, pilot)
        assert "? help" in last and "q quit" in last
        assert "moshiko-mlx-q4 · q4" in first and "kyutai/" not in first
        assert first.endswith("0:42"), "the clock stays too"


async def test_any_key_closes_the_help_and_does_nothing_else():
    chat = FakeChat()
    app = screen(chat)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("question_mark", "n", "x"):
            await pilot.press("question_mark")
            assert len(app.screen_stack) == 2
            await pilot.press(key)
            assert len(app.screen_stack) == 1
    assert chat.calls == []


@pytest.mark.parametrize(
    ("opened", "close"),
    [
        ("question_mark", lambda dialog: dialog.post_message(events.Key("x", "x"))),
        ("d", lambda dialog: dialog.action_leave()),
    ],
)
async def test_keys_that_come_at_once_close_a_dialog_once(opened, close):
    app = screen(FakeChat())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(opened)
        dialog = app.screen
        for _ in range(3):
            close(dialog)
        await pilot.pause(0.1)
        assert app.is_running and len(app.screen_stack) == 1


async def test_a_recording_that_cannot_be_made_is_told_and_the_talk_goes_on():
    chat = FakeChat(record_error="talks is a file; choose another folder")
    app = screen(chat)
    async with app.run_test() as pilot:
        await pilot.press("r")
        assert any("talks is a file" in row for row in await settled(app, pilot))
        assert app.is_running


async def test_hours_of_talk_keep_the_transcript_bounded_and_lines_cost_the_same():
    """CPU time of the first ten and of the next 110; were each styled anew with every one that
    comes, it would be twenty times as much."""
    chat, spent_s = FakeChat(), []
    app = screen(chat)
    async with app.run_test(size=(80, 24)) as pilot:
        for first, last in ((0, 10), (10, LINES_KEPT), (LINES_KEPT, LINES_KEPT + 15)):
            start_s = time.process_time()
            for number in range(first, last):
                chat.box(word(20 * number, f" paragraph {number}"))
            shown = await settled(app, pilot)
            spent_s.append(time.process_time() - start_s)
        assert len(app.query(Paragraph)) == LINES_KEPT
        assert any(f"paragraph {LINES_KEPT + 14}" in row for row in shown)  # it follows the newest
    assert spent_s[1] < 11 * spent_s[0], spent_s


async def test_markup_in_what_is_said_is_only_text():
    chat = FakeChat()
    chat.box(word(0, " [red]not red[/red] [/]"))
    app = screen(chat)
    async with app.run_test() as pilot:
        assert any("[red]not red[/red] [/]" in row for row in await settled(app, pilot))


async def test_a_meter_falls_slowly_and_marks_its_peak():
    app = screen(FakeChat())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        meter = app.query_one("#moshi", Meter)
        meter.show(-6.0)
        loud = meter.render().plain.count("█")
        meter.show(-60.0)
        after = meter.render().plain
        assert 0 < loud - after.count("█") < 8 and "▕" in after
        for _ in range(60):
            meter.show(-60.0)
        assert "█" not in meter.render().plain and "quiet" in meter.render().plain


def test_the_talks_end_ends_the_screen(capsys, monkeypatch):
    chat, real = FakeChat(over=True), ChatScreen.run
    monkeypatch.setattr(ChatScreen, "run", lambda app: real(app, headless=True))  # no terminal here
    run_screen(chat)  # type: ignore
    assert chat.calls == ["start"] and capsys.readouterr().err == "", "its end is told by `report`"


def test_figures_turn_red_when_the_machine_is_too_slow():
    slow = replace(TALKING, step_ms_p50=95.0, lag_ms=500.0, dropped_frames=3.0)
    styles = dict(figures(Snapshot(slow, SoundState(input_xruns=2), False, None, "linear")))
    assert styles["frame 95 p95 55 of 80 ms"] == "$error"
    assert styles["lag 500 ms"] == "$error" and styles["dropped 3"] == "$warning"
    assert "xruns 2" in styles and "memory 6.4 GB" in styles


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (62.9, "1:02"), (3599, "59:59"), (3723, "1:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
