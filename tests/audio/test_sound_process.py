"""The sound process killed and frozen in a talk over PulseAudio: what is lost, and for how long."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from moshi_mlx.clock import SAMPLE_RATE_HZ
from tests.support.processes import sound_attack
from tests.support.processes.chat_process import ChatProcess, check_take, takes_in
from tests.support.processes.pulse import Pulse, needs_pulse

pytestmark = needs_pulse
KILL_S, STOP_S = 0.2, 0.3  # how soon the talk goes on


def attacked(pulse, times, number, busy=False):
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 if busy else 0)
    ]
    try:
        command = [sys.executable, sound_attack.__file__, str(times), str(int(number))]
        done = subprocess.run(command, env=pulse.env, capture_output=True, text=True)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def pulse():
    card = Pulse(loopback=True)
    yield card
    card.close()


def check(pulse, times, number, limit_s, busy=False):
    """Up to three tries: other programs may hold the CPU meanwhile."""
    for _ in range(3):
        found = attacked(pulse, times, number, busy)
        print(found)
        assert not found["processes_left"], "no process"
        if (
            np.percentile(found["outages_s"], 95) < limit_s
            and found["drift_s"] < 0.12  # no hole, but a device may come back up to 80 ms later
            and min(found["same"]) > 0.99  # the microphone is what was played, each sample
        ):
            return
    raise AssertionError(found)


def test_a_talk_survives_its_sound_process(pulse):
    """How soon is a matter of an idle machine: the long test asks for that."""
    before = set(os.listdir("/dev/shm"))
    for number in (signal.SIGKILL, signal.SIGSTOP):
        found = attacked(pulse, 2, number)
        assert len(found["outages_s"]) == 2 and not found["processes_left"], found
    assert set(os.listdir("/dev/shm")) <= before, "nothing is left in shared memory"


@pytest.mark.long
@pytest.mark.parametrize("busy", [False, True])
def test_a_talk_survives_fifty_deaths_of_its_sound_process(pulse, busy):
    before = set(os.listdir("/dev/shm"))
    check(pulse, 25, signal.SIGKILL, KILL_S, busy)
    check(pulse, 25, signal.SIGSTOP, STOP_S, busy)
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.long
def test_a_recorded_chat_has_no_hole_where_its_sound_process_was_killed(tmp_path):
    card = Pulse()
    try:
        with ChatProcess(tmp_path, "--record", str(tmp_path / "t"), env=card.env) as chat:
            chat.wait_for("conversation 1")
            time.sleep(1.0)
            start_s = time.monotonic()
            for child in sound_attack.children_of(chat.process.pid):  # the spare as well
                os.kill(child, signal.SIGKILL)
            chat.wait_for("the sound system crashed: opening sound again", 10)
            chat.wait_for("sound is back", 10)
            time.sleep(2.0)
            wall_s = time.monotonic() - start_s
            assert chat.interrupt() == 130
            assert "Traceback" not in chat.notes
    finally:
        card.close()
    (take,) = takes_in(tmp_path / "t")
    talk = check_take(take)
    heard_s = sum(0.08 + line["dropped_samples"] / SAMPLE_RATE_HZ for line in talk["timings"])
    assert heard_s > 1.0 + wall_s - 1.2, "a loss of less than a second is bridged"
