"""`moshi chat` with a model to be fetched: size, licence and forecast first, then the talk itself.

The repository has the 7B's name and, on a server of this machine, the embedded model's files: the
forecast is the 7B's, and what is fetched can talk.
"""

import os
import threading

import pytest

from moshi_mlx.hub import NANO
from tests.support.fakes import fake_hub
from tests.support.processes.chat_process import ChatProcess, check_answer, check_take, takes_in

NAME = "kyutai/moshiko-mlx-q4"
QUESTION = str(NANO / "samples" / "four_plus_three.wav")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Environment of a process for which Hugging Face is that server, with an empty cache."""
    server = fake_hub.Hub()
    monkeypatch.setattr(fake_hub, "MODEL", {})  # what a file's hash is taken of instead, else
    server.repositories = {NAME: {p.name: p.read_bytes() for p in NANO.iterdir() if p.is_file()}}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    yield env | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
    server.shutdown()
    server.server_close()


def talk(folder, env, *args):
    folder.mkdir()
    with ChatProcess(
        *(folder, "--model", NAME, "--virtual-input", QUESTION, "--echo", "off"),
        *("--record", str(folder / "talks"), "--tail", "2", *args),
        env=env,
    ) as chat:
        status = chat.end(120)
    return status, chat


def test_the_forecast_comes_before_the_download_and_holds_no_talk(tmp_path, served):
    """And once it is there, without a network, there is nothing to say."""
    status, chat = talk(tmp_path / "first", served)
    assert status == 0, chat.notes
    check_answer(tmp_path / "first" / "talks", chat.said, "Four plus three is seven.")
    told = chat.notes.replace("\r", "\n").splitlines()
    size = next(i for i, line in enumerate(told) if "GB to download (licence: cc-by-4.0)" in line)
    ready = next(i for i, line in enumerate(told) if "ready after" in line)
    assert size < ready
    if "speed: " in chat.notes:  # where MLX runs on the CPU, or the chip is known
        assert size < next(i for i, line in enumerate(told) if line.startswith("speed: ")) < ready
    gone = served | {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody answers there
    status, chat = talk(tmp_path / "offline", gone, "--offline", "--tail", "0")
    assert status == 0, chat.notes
    assert check_take(*takes_in(tmp_path / "offline" / "talks"))["frames"] > 10
    assert "download" not in chat.notes and "speed: " not in chat.notes


def test_offline_without_the_model_is_one_line(tmp_path, served):
    status, chat = talk(tmp_path / "first", served, "--offline")
    assert status == 1
    (line,) = chat.notes.splitlines()
    assert line.startswith("error: ") and NAME in line
