"""A microphone of zeros: its cause is named, a question of the system is waited for. Pure."""

import time
from dataclasses import replace

import pytest

from app.audio.devices.device import Device
from app.audio.devices.lid import read_lid
from app.audio.devices.silence import Circumstances, circumstances, why_silent
from app.audio.microphone_watch import ALLOWED, LID_CLOSED, MicrophoneWatch
from app.audio.permission import PermissionAsk

MIC = Device("MacBook Pro Microphone", 0, 1, 0, 48e3, transport="built-in")
INTERNAL = replace(MIC, uid="BuiltInMicrophoneDevice")
PODS = Device("AirPods", 1, 1, 0, 24e3, transport="bluetooth", uid="AA:input")
MAC = Circumstances("darwin", "granted")


@pytest.mark.parametrize(
    ("about", "microphone", "expected"),
    [
        (replace(MAC, lid_closed=True), INTERNAL, "the lid is closed"),
        (replace(MAC, lid_closed=True), PODS, "AirPods stem"),
        (replace(MAC, ssh=True, permission="denied"), INTERNAL, "none over ssh"),
        (
            replace(MAC, permission="denied", terminal="Ghostty"),
            INTERNAL,
            "allow Ghostty in System Settings > Privacy & Security > Microphone",
        ),
        (replace(MAC, permission="denied"), INTERNAL, "allow this terminal in System Settings"),
        (
            replace(MAC, permission="not asked", terminal="Tabby"),
            INTERNAL,
            "Tabby can't ask for it: use Apple's Terminal, iTerm2 or WezTerm, or `moshi web`",
        ),
        (replace(MAC, multiplexer="tmux"), INTERNAL, "start moshi outside of tmux"),
        (MAC, INTERNAL, "is it muted"),
        (Circumstances("linux"), MIC, "See `moshi devices`"),
    ],
)
def test_each_cause_of_silence_is_one_line_with_what_to_do(about, microphone, expected):
    line = why_silent(microphone, about)
    assert expected in line and "\n" not in line and microphone.name in line


def test_the_circumstances_are_read_from_the_environment():
    environment = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22", "TERM_PROGRAM": "Apple_Terminal"}
    assert circumstances("granted", False, environment, "darwin") == replace(
        MAC, ssh=True, terminal="Terminal"
    )
    inside = circumstances(None, True, {"STY": "1.tty", "TERM_PROGRAM": "Tabby"}, "darwin")
    assert (inside.multiplexer, inside.terminal, inside.lid_closed) == ("screen", "Tabby", True)
    assert circumstances(None, False, {"TMUX": "/tmp/x"}, "darwin").multiplexer == "tmux"


IOREG = """+-o IOPMrootDomain  <class IOPMrootDomain, id 0x10000030b>
    {
      "AppleClamshellCausesSleep" = No
      "AppleClamshellState" = {}
      "IOSleepSupported" = Yes
    }
"""


def test_the_lid_is_read_from_what_ioreg_prints():
    assert read_lid(IOREG.replace("{}", "Yes")) and not read_lid(IOREG.replace("{}", "No"))
    assert not read_lid(""), "a Mac mini has none"


class Answers:
    """Stands for PermissionAsk."""

    def __init__(self, state):
        self.state = state

    def look(self):
        return self.state


class Watched:
    def __init__(self, permission=None, lid=False, terminal=None):
        about = lambda state, closed: replace(  # noqa: E731
            MAC, permission=state, lid_closed=closed, terminal=terminal
        )
        self.notices, self.now, self.calls = [], 0.0, 0
        self.watch = MicrophoneWatch(permission, lambda: lid, about)
        self.watch.opened(INTERNAL)

    def seconds(self, seconds, zeros=0, others=False):
        for _ in range(round(10 * seconds)):
            self.now, self.calls = self.now + 0.1, self.calls + 5
            why = self.watch.tick(self.now, zeros, self.calls, 0, others, self.notices.append)
            if why is not None:
                return why
        return None

    @property
    def kinds(self):
        return [notice.kind for notice in self.notices]


def test_zeros_are_told_once_and_what_is_heard_afterwards_too():
    it = Watched()
    it.seconds(60, zeros=47_000)
    assert not it.kinds
    it.seconds(60, zeros=49_000)
    it.seconds(60)
    assert it.kinds == ["microphone-silent", "microphone-heard"]


def test_a_lid_that_was_closed_makes_another_microphone_take_over():
    assert Watched(lid=True).seconds(1, 49_000, others=True) == LID_CLOSED
    alone = Watched(lid=True)
    assert alone.seconds(1, 49_000) is None and "lid is closed" in alone.notices[0].message


def test_the_talk_waits_for_the_systems_question_and_opens_anew_when_it_was_granted():
    permission = Answers(None)
    it = Watched(permission)
    it.seconds(1, zeros=49_000 * 0)
    permission.state = "not asked"
    assert it.seconds(10, zeros=240_000) is None and it.watch.waits
    assert it.kinds == ["microphone-asked"], "no word of silence while it stands"
    permission.state = "granted"
    assert it.seconds(1, zeros=240_000) == ALLOWED and not it.watch.waits


def test_a_terminal_that_never_asks_is_named_with_what_to_use_instead():
    it = Watched(Answers("not asked"), terminal="Tabby")
    it.seconds(19)
    assert it.kinds == ["microphone-asked"]
    it.seconds(30)
    assert it.kinds == ["microphone-asked", "microphone-unanswered"]
    assert "Tabby can't ask" in it.notices[1].message


def test_a_denied_question_is_told_by_the_silence():
    permission = Answers("not asked")
    it = Watched(permission)
    it.seconds(3, zeros=72_000)
    permission.state = "denied"
    assert it.seconds(3, zeros=144_000) is None and not it.watch.waits
    assert it.kinds[-1] == "microphone-silent" and "System Settings" in it.notices[-1].message


def test_a_microphone_that_loses_samples_for_ever_is_told_and_left_alone():
    it = Watched()
    told = []
    for t in range(300):
        why = it.watch.tick(t / 10, 0, 5 * t, 5 * t, False, it.notices.append)
        told += [why] if why else []
    assert len(told) == 1 and it.kinds == ["microphone-lossy"]


def test_a_machine_that_is_too_busy_is_named_and_no_microphone_is_blamed():
    it = Watched()
    for t in range(300):  # input is lost in every callback, as in the test before
        assert it.watch.tick(t / 10, 0, 5 * t, 5 * t, False, it.notices.append, True) is None
    assert it.kinds == ["machine-busy"] and "close other programs" in it.notices[0].message
    calm = Watched()
    for t in range(300):  # an underrun now and then is nothing to speak of
        assert calm.watch.tick(t / 10, 0, 5 * t, t // 20, False, calm.notices.append, True) is None
    assert calm.kinds == []


def test_the_state_comes_from_a_process_of_its_own(tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(
        "import sys, time\nassert sys.argv[1:] == ['ask']\nprint('not asked', flush=True)\n"
        "time.sleep(1)\nprint('granted', flush=True)\n"
    )
    ask = PermissionAsk((str(script),))
    seen, end = [], time.monotonic() + 60
    while "granted" not in seen:
        assert time.monotonic() < end, seen
        state = ask.look()
        if state not in seen:
            seen.append(state)
        time.sleep(0.01)
    assert [state for state in seen if state] == ["not asked", "granted"]
    ask.close()
    ask.close()


def test_where_avfoundation_is_missing_the_state_is_unknown():
    ask = PermissionAsk()
    time.sleep(0.5)
    assert ask.look() is None
    ask.close()
