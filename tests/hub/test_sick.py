"""A hub, a proxy, a token or a network that is out of order: the copy is taken, or one line."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from moshi_mlx import hub
from moshi_mlx.errors import DownloadError
from moshi_mlx.hub.failures import NoAnswerError
from moshi_mlx.hub.flow import LEAST_BYTES, waited_for
from moshi_mlx.hub.licences import in_words
from tests.support.fakes.fake_hub import COMMIT, MODEL, serving
from tests.support.tree import tree_digest

ROOT = Path(__file__).parents[2]
NAME = "kyutai/moshi-test"
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Welcome to our hotel</title></html>"
DAY_S = 24 * 3600


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds the model, fetched two days ago."""
    with serving(monkeypatch):
        hub.resolve(NAME, cache_dir=tmp_path)
    old = time.time() - 2 * DAY_S
    os.utime(ref(tmp_path), (old, old))
    return tmp_path


def ref(cache: Path) -> Path:
    return cache / "models--kyutai--moshi-test" / "refs" / "main"


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None):
    """A server that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ANSWERS = {
    "401": (401, b"", "doesn't know this token", "hf auth login"),
    "403": (403, b"", "doesn't let this account", "ask for access"),
    "404": (404, b"", "doesn't have it", "hf auth login"),
    "418": (418, b"", "out of order", "try again later"),
    "429": (429, b"", "too many requests", "in some minutes"),
    "a login page": (200, LOGIN_PAGE, "not the hub", "in a browser"),
    "a list": (200, b"[]", "not the hub", "in a browser"),
    "a list of one": (200, b"[1]", "not the hub", "in a browser"),
    "nothing": (200, b"", "not the hub", "in a browser"),
    "a commit outside": (200, b'{"id": "a/b", "sha": "../../x"}', "not the hub", "in a browser"),
}


@pytest.mark.parametrize(("status", "body", "said", "do"), ANSWERS.values(), ids=ANSWERS.keys())
def test_the_copy_is_taken_whatever_the_hub_says(
    cache, monkeypatch, capsys, status, body, said, do
):
    before = tree_digest(cache)
    with answering(status, body) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        folder = hub.resolve(NAME, cache_dir=cache)
        line = capsys.readouterr().err
        assert folder.name == COMMIT and line.count("\n") == 1
        assert said in line and "taking the copy on this machine" in line
        assert tree_digest(cache) == before
        with pytest.raises(DownloadError) as caught:
            hub.resolve("kyutai/other", cache_dir=cache)
        refused = str(caught.value)
        assert "\n" not in refused and "kyutai/other" in refused and do in refused, refused


def test_what_another_server_says_is_not_kept(tmp_path):
    """By huggingface_hub, for things of its own: the next command would end by it."""
    with answering(200, b"[1]") as endpoint:
        env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
        command = [sys.executable, "-m", "app.cli", "models", "pull", NAME]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "not the hub" in done.stderr, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_server_that_never_answers_keeps_nobody_waiting(cache, monkeypatch, capsys):
    """And what is waited for is said at once."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert hub.resolve(NAME, cache_dir=cache).name == COMMIT
        assert time.monotonic() - started < 60  # 8 s; nine minutes without a limit of ours
    said = capsys.readouterr().err
    assert said.startswith(f"asking the hub for {NAME} ...\n") and "doesn't answer within" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://["),
        ("HTTPS_PROXY", "nonsense://x"),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ("HF_TOKEN", "hf_ключ"),
        ("HF_ENDPOINT", "localhost"),
        ("HF_ENDPOINT", "ftp://127.0.0.1"),
        ("HF_ENDPOINT", "http://["),
        ("HF_ENDPOINT", "https://127.0.0.1:x"),
        ("HF_ENDPOINT", "https://a..b"),
        ("HF_ENDPOINT", "https://127.0.0.1:1\x1b[31m"),
        ("HF_ENDPOINT", "\udcff"),
        ("HF_ENDPOINT", " "),
    ],
)
def test_a_proxy_token_or_address_that_cannot_be_is_named(cache, monkeypatch, capsys, name, value):
    import huggingface_hub

    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:1")
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv(name, value)
    huggingface_hub.close_session()  # a client is made with the proxies of its time
    try:
        assert hub.resolve(NAME, cache_dir=cache).name == COMMIT
        assert "taking the copy on this machine" in capsys.readouterr().err
        with pytest.raises(DownloadError) as caught:
            hub.resolve("kyutai/other", cache_dir=cache)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    finally:
        monkeypatch.delenv(name)
        huggingface_hub.close_session()


def test_what_was_asked_for_today_starts_without_asking(cache, monkeypatch):
    with serving(monkeypatch) as server:
        hub.resolve(NAME, cache_dir=cache)  # two days old: asked, and told the same
        assert server.requests
        server.requests.clear()
        hub.resolve(NAME, cache_dir=cache)
        hub.resolve(NAME, revision=COMMIT, cache_dir=cache)
        assert not server.requests
        (ref(cache).parents[1] / "snapshots" / COMMIT / "mimi.safetensors").unlink()
        hub.resolve(NAME, cache_dir=cache)  # something is missing
        assert server.requests


@pytest.mark.parametrize("revision", ["../../x", "/etc/passwd", "a/../b", "", "a\nb", "a b"])
def test_a_revision_never_leads_outside(cache, revision):
    before = tree_digest(cache)
    with pytest.raises(DownloadError, match="is no branch, tag or commit"):
        hub.resolve(NAME, revision=revision, cache_dir=cache)
    assert tree_digest(cache) == before


def test_weights_in_a_folder_of_the_repository(tmp_path, monkeypatch):
    with serving(monkeypatch) as server:
        config = b'{"moshi_name": "sub/model.safetensors"}'
        files = {"config.json": config, "sub/model.safetensors": MODEL["mimi.safetensors"]}
        server.repositories["kyutai/sub"] = files
        folder = hub.resolve("kyutai/sub", cache_dir=tmp_path, files=("weights",))
        assert (folder / "sub" / "model.safetensors").is_file()
        assert (folder / "config.json").is_file()


@pytest.mark.parametrize("sick", ["damaged", "no room", "an etag outside", "no weights"])
def test_the_copy_is_taken_where_what_is_newer_cannot_be(cache, monkeypatch, capsys, sick):
    """And nothing is written beside the cache, whatever name a file is to get there."""
    around = set(cache.parent.iterdir())
    with serving(monkeypatch) as server:
        server.commit, files = "f" * 40, server.repositories[NAME]
        if sick == "damaged":
            server.etag = "0" * 64  # no file's sum
        if sick == "no room":
            monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
        if sick == "an etag outside":
            server.etag = "../../../outside"
        if sick == "no weights":
            del files["model.q4.safetensors"], files["model.q8.safetensors"]
        assert hub.resolve(NAME, cache_dir=cache).name == COMMIT
        assert capsys.readouterr().err.endswith("; taking the copy on this machine\n")
        with pytest.raises(DownloadError):
            hub.resolve(NAME, cache_dir=cache / "empty")
    assert set(cache.parent.iterdir()) == around


def test_a_download_of_what_is_newer_that_stands_still_keeps_nobody_waiting(
    cache, monkeypatch, capsys
):
    with serving(monkeypatch) as server:
        server.commit, server.silent_from = "f" * 40, "model.q4.safetensors"
        server.repositories[NAME]["model.q4.safetensors"] = b"newer"
        assert hub.resolve(NAME, cache_dir=cache).name == COMMIT
    assert "the hub has sent almost nothing for 4 s; taking the copy" in capsys.readouterr().err


def test_who_sends_next_to_nothing_is_given_up_and_who_sends_is_waited_for():
    def drips(flow):
        while True:
            flow.add(1)
            time.sleep(0.01)

    with pytest.raises(NoAnswerError, match="almost nothing"):
        waited_for(drips, 0.4)

    def flows(flow):
        for _ in range(5):
            time.sleep(0.3)
            flow.add(LEAST_BYTES)
        return "all"

    assert waited_for(flows, 1.2) == "all"


def spoiled(cache: Path, how: str) -> None:
    path, folder = ref(cache), ref(cache).parents[1]
    if how in ("a ref of rubbish", "a ref that leads away", "a long ref"):
        said = {"a ref of rubbish": b"\xff\0", "a ref that leads away": b"../../.."}
        path.write_bytes(said.get(how, b"a" * 5000))
    elif how == "a ref that is a pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "a ref that is a folder":
        path.unlink()
        path.mkdir()
    else:
        shutil.rmtree(folder / "blobs")
        (folder / "blobs").write_text("no folder")


@pytest.mark.parametrize(
    "how",
    [
        *("a ref of rubbish", "a ref that leads away", "a long ref", "a ref that is a pipe"),
        *("a ref that is a folder", "no place for a file"),
    ],
)
def test_a_spoiled_cache_is_mended_or_named(cache, monkeypatch, how):
    spoiled(cache, how)
    with pytest.raises(DownloadError, match=r"on this machine|lacks its weights"):
        hub.resolve(NAME, cache_dir=cache, offline=True)
    with serving(monkeypatch):
        if how == "no place for a file":
            with pytest.raises(DownloadError, match=r"cache can't be used .*: see who"):
                hub.resolve(NAME, cache_dir=cache)
            return
        assert hub.resolve(NAME, cache_dir=cache).name == COMMIT
    if how != "a ref that is a folder":
        assert hub.resolve(NAME, cache_dir=cache, offline=True).name == COMMIT


def test_a_cache_of_others_that_is_whole_is_taken_without_a_word(cache, monkeypatch, capsys):
    """Its place for what the hub said can't be written."""
    place = ref(cache).parent
    ref(cache).rename(cache / "kept")
    place.rmdir()
    place.write_text("no folder")
    with serving(monkeypatch):
        assert hub.resolve(NAME, COMMIT, cache_dir=cache).name == COMMIT
        assert hub.resolve(NAME, cache_dir=cache).name == COMMIT
    assert "couldn't" not in capsys.readouterr().err


def test_a_licence_is_shown_as_text():
    assert in_words("\x1b[31m nc\u202e") == "\\x1b[31m nc\\u202e: not for commercial use"
    assert len(in_words("x" * 10_000)) < 1000
