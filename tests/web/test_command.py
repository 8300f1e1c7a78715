"""`moshi web` as a command: starts, stops, and says in one line what is wrong."""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from app.cli import main
from app.commands import web
from app.commands.signals import Signals
from app.web import params
from tests.support.fakes.web_fakes import FakeEngine
from tests.support.processes.web_process import moshi_web


def refused(capsys, *args: str) -> str:
    """The one line of a start that must fail: exit code 2 for options, 1 for what they name."""
    assert main(["web", "--model", "nano", "--no-open", *args]) in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_documentation_names_every_option_and_every_parameter():
    text = (Path(__file__).parents[2] / "docs" / "web.md").read_text()
    parser = argparse.ArgumentParser()
    web.configure(parser)
    options = {name for action in parser._actions for name in action.option_strings}
    shared = {"-h", "--help", "--revision", "--offline"}
    assert {name for name in options - shared if f"`{name}" not in text} == set()
    unnamed = {name for name in params.known() if not re.search(rf"`{name}[`=]", text)}
    assert unnamed <= {"repetition_penalty_context"}  # "and its context"


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_it_serves_the_page_and_ends_cleanly(sent, status):
    with moshi_web() as server:
        assert server.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(server.url) as answer:
            assert b"<title>Moshi</title>" in answer.read()
        server.process.send_signal(sent)
        assert server.process.wait(timeout=60) == status
        assert server.process.stderr.read() == ""


def test_beyond_loopback_the_address_holds_a_token():
    with moshi_web("--host", "0.0.0.0") as server:
        base, _, token = server.url.partition("?token=")
        assert len(token) > 20 and "127.0.0.1" not in base
        local = f"http://127.0.0.1:{base.rstrip('/').rpartition(':')[2]}"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{local}/api/status")
        with urllib.request.urlopen(f"{local}/api/status?token={token}") as answer:
            assert b'"model": "nano"' in answer.read()
        server.process.terminate()
        server.process.wait(timeout=60)
        assert "add --tls self" in server.process.stderr.read()


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ([], "moshi-talks"),
        (["--host", "localhost"], "moshi-talks"),
        (["--host", "0.0.0.0"], None),
        (["--host", "192.168.1.2", "--save-to", "kept"], "kept"),
    ],
)
def test_others_than_this_machine_save_talks_only_where_they_are_given_a_place(given, folder):
    parser = argparse.ArgumentParser()
    web.configure(parser)
    wanted = web.wanted_from(parser.parse_args(["--model", "nano", *given]))
    assert wanted.save_to == (None if folder is None else Path(folder))


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = refused(capsys, "--port", str(taken.getsockname()[1]))
    assert "can't listen" in line and "choose another --port" in line


@pytest.mark.parametrize("after", ["at once", "its address"])
def test_where_nobody_reads_what_it_says_it_ends(after):
    parser = argparse.ArgumentParser()
    web.configure(parser)
    args = parser.parse_args(["--model", "nano", "--port", "0", "--no-open"])
    read = threading.Event()

    def engine():
        read.wait(60)
        return FakeEngine()

    wanted = replace(web.wanted_from(args), make_engine=engine)
    reading, writing = os.pipe()
    with open(writing, "w") as said, contextlib.redirect_stdout(said):

        def reads():
            if after == "its address":
                os.read(reading, 1000)
            os.close(reading)
            read.set()

        reader = threading.Thread(target=reads)
        reader.start()
        reader.join(0 if after == "its address" else None)
        with pytest.raises(BrokenPipeError):
            asyncio.run(web.Host(web.place_from(args), wanted, Signals()).serve())
        reader.join()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", ""], "--host is empty: give an address"),
        (["--port", "70000"], "between 0 and 65535"),
        (["--host", "no.such.host.invalid"], "can't listen"),
        (["--tls", "missing.pem,key.pem"], "no such file: missing.pem"),
        (["--tls", "one-file-only.pem"], "CERT.pem,KEY.pem"),
        (["--static", "no-such-folder"], "no index.html"),
        (["--allow-origin", "example"], "isn't an origin"),
    ],
)
def test_bad_options(args, said, capsys):
    assert said in refused(capsys, "--port", "0", *args)


@pytest.mark.parametrize("host, told", [("127.0.0.1", False), ("0.0.0.0", True)])
def test_other_devices_are_told_of_a_certificate_where_there_may_be_some(
    host, told, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with moshi_web("--tls", "self", "--host", host) as server:
        assert server.url.startswith("https://127.0.0.1:" if not told else "https://")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=60) == 0
        assert ("iPhone" in server.process.stderr.read()) is told
    assert list(tmp_path.rglob("self-made.pem"))
