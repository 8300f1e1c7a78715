"""Kyutai's own Python client, from PyPI and in its own environment, against `moshi web`."""

import contextlib
import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import soundfile

from moshi_mlx.hub import NANO
from tests.support.processes.endings import until
from tests.support.processes.pulse import Pulse, needs_pulse
from tests.support.processes.web_process import moshi_web

PEER = os.environ.get("PEER_PYTHON")
# Their package's __init__ imports torch, which the client doesn't need.
CLIENT = """
import importlib.util, sys, types
package = types.ModuleType("moshi")
package.__path__ = importlib.util.find_spec("moshi").submodule_search_locations
sys.modules["moshi"] = package
from moshi.client import main
main()
"""


@pytest.fixture
def pulse():
    card = Pulse()
    yield card
    card.close()


def words_of(shown):
    return "".join(line for line in shown.splitlines() if line and "Info" not in line)


@pytest.mark.peer
@pytest.mark.skipif(not PEER, reason="PEER_PYTHON isn't set; run with `make test-peer`")
@needs_pulse
def test_kyutais_python_client_talks_with_our_server(pulse, tmp_path):
    with moshi_web() as server:
        played = tmp_path / "played.wav"
        record = pulse.listen(played)
        client = subprocess.Popen(
            [PEER, "-u", "-c", CLIENT, "--url", server.url.replace("http", "ws").rstrip("/")],
            env=pulse.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines, words = [], threading.Event()

        def read():
            assert client.stdout is not None
            for character in iter(lambda: client.stdout.read(1), ""):
                lines.append(character)
                if len(words_of("".join(lines))) > 5:
                    words.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            until(lambda: "connected!" in "".join(lines))  # torch is loaded first
            time.sleep(1)
            pulse.speak(NANO / "samples" / "four_plus_three.wav")
            assert words.wait(60), "".join(lines)
            time.sleep(1)
            assert client.poll() is None
        finally:
            client.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(timeout=10)  # how it ends is its own affair
            client.kill()
            reader.join(60)
            record.terminate()
            record.wait(timeout=60)
        assert server.process.poll() is None
    shown = "".join(lines)
    assert "connected!" in shown and "Traceback" not in shown, shown
    assert len(words_of(shown)) > 5, shown
    sound, _ = soundfile.read(played)
    assert np.sqrt(np.mean(sound**2)) > 0.003
