"""`moshi chat` in a pseudo terminal: its keys, its end, and the terminal afterwards."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from moshi_mlx.hub import NANO

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen
QUESTION = NANO / "samples" / "four_plus_three.wav"


class Terminal:
    """A chat with the embedded model and what it has written so far."""

    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "app.cli", "chat", "--model", "nano", "--echo", "off"]
        command += ["--virtual-input", str(QUESTION), *args]
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: os.login_tty(slave),  # its controlling terminal
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )
        os.close(slave)
        self.output = b""

    def read(self, seconds: float) -> bool:
        """Take what comes; False once the other side is closed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                return True
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.output += data
        return True

    def wait_for(self, text: bytes, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, self.output[-2000:].decode(errors="replace")
            self.read(0.2)

    def end(self, seconds: float = 60.0) -> int:
        """The exit status, with everything written until then."""
        deadline = time.monotonic() + seconds
        while self.read(0.2) and self.process.poll() is None:
            assert time.monotonic() < deadline
        return self.process.wait(timeout=seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal():
    made = []

    def make(*args: str) -> Terminal:
        made.append(Terminal(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_q_ends_the_talk_and_the_terminal_is_as_before(terminal, tmp_path):
    chat = terminal("--tail", "120", "--record", str(tmp_path))
    chat.wait_for(b"conversation 1")
    assert ENTERED in chat.output
    os.write(chat.master, b"q")
    assert chat.end() == 0
    after = chat.output.rpartition(LEFT)[2]
    assert b"of talk, seed" in after and b"recorded: " in after and b"\x1b[?25h" in chat.output
    (take,) = tmp_path.iterdir()
    assert (take / "manifest.json").exists()


def test_the_input_ends_the_talk(terminal):
    chat = terminal("--tail", "0.5")
    assert chat.end(90) == 0
    assert LEFT in chat.output and b"of talk, seed" in chat.output.rpartition(LEFT)[2]


@pytest.mark.parametrize("sent", [signal.SIGHUP])  # the others: tests/talk/test_endings.py
def test_a_signal_ends_it_with_the_terminal_restored(terminal, sent):
    chat = terminal("--tail", "120")
    chat.wait_for(b"conversation 1")
    os.kill(chat.process.pid, sent)
    assert chat.end() == 128 + sent
    assert LEFT in chat.output
