"""Kyutai's own Python client, from PyPI and in its own environment, against `moshi web`."""

import os
import signal
import subprocess
import time

import numpy as np
import pytest
import soundfile

from moshi_mlx.hub import NANO
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
        try:
            time.sleep(4)
            pulse.speak(NANO / "samples" / "four_plus_three.wav")
            time.sleep(5)
            assert client.poll() is None
        finally:
            client.send_signal(signal.SIGINT)
            shown, _ = client.communicate(timeout=60)
            record.terminate()
            record.wait(timeout=60)
        assert server.process.poll() is None
    assert "connected!" in shown and "Traceback" not in shown, shown
    words = [line for line in shown.splitlines() if line and "Info" not in line]
    assert len("".join(words)) > 5, shown
    sound, _ = soundfile.read(played)
    assert np.sqrt(np.mean(sound**2)) > 0.003
