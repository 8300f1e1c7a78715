"""A command that hangs is over 2 s after the signal, by the clock that it looks at."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Its clock runs by the sleeps that are asked for alone; each is told.
CODE = """
import os, signal, sys, threading
from app.commands.signals import Signals

class Clock:
    now_s = 100.0
    def __call__(self):
        return self.now_s
    def sleep(self, seconds):
        self.now_s += seconds
        os.write(1, b"%.2f\\n" % (self.now_s - 100))  # at once: two threads tell
        if self.now_s < 100.015:
            sys.stdin.readline()  # one of the test's own signals comes first

clock = Clock()

def hang(*_):
    while True:
        try:
            os.write(1, b"begun\\n")
            threading.Event().wait(600)
        except KeyboardInterrupt:
            pass

with Signals(clock=clock, sleep=clock.sleep) as signals:
    if sys.argv[1] == "what is to be done hangs":
        signals.call(hang)
    if sys.argv[1] == "bench's report is written":
        signals.interrupt_s = 60.0
        # The thread that waits for "go on" gets the kill, and so has it before it goes on.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    hang()
"""
HANGS = ("the main thread hangs", "what is to be done hangs")
ENDINGS = [(how, number) for how in HANGS for number in (signal.SIGTERM, signal.SIGHUP)]
ENDINGS += [(HANGS[0], signal.SIGINT), (HANGS[0], signal.SIGQUIT)]


def ended(how: str, number: signal.Signals, then: signal.Signals | None = None) -> tuple:
    """The status, and the last time that its clock told, in seconds from the first signal."""
    pipe = subprocess.PIPE
    command = subprocess.Popen(
        [sys.executable, "-c", CODE, how], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    )
    assert command.stdin is not None and command.stdout is not None
    assert command.stdout.readline() == "begun\n"
    command.send_signal(number)
    told = ""
    while told != "0.01\n":
        told = command.stdout.readline()  # "begun" once more, where its thread hangs too
        assert told, "it ended before its time"
    if then is not None:
        command.send_signal(then)
    rest, _ = command.communicate("go on\n", timeout=60)
    return command.returncode, float(rest.splitlines()[-1])


@pytest.mark.parametrize(("how", "number"), ENDINGS, ids=str)
def test_what_hangs_is_ended_by_the_deadline(how: str, number: signal.Signals) -> None:
    status, last_s = ended(how, number)
    assert status == 128 + number
    assert 1.5 < last_s <= 2.0, "no earlier either: a recording is finished in that time"


def test_ctrl_c_may_leave_more_time_and_a_kill_takes_it_back() -> None:
    how = "bench's report is written"
    status, last_s = ended(how, signal.SIGINT)
    assert status == 130 and last_s == pytest.approx(60.0, abs=0.02)
    status, last_s = ended(how, signal.SIGINT, signal.SIGTERM)
    assert status == 130 and last_s <= 2.0
