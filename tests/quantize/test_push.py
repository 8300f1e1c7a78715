"""moshi quantize push against a server on 127.0.0.1 that takes uploads as the hub does."""

import base64
import json
import socket
import threading
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from app.cli import main
from quantize.push.push import model_card, read_report
from tests.support.models.quantize_models import write_model


class Hub(ThreadingHTTPServer):
    """What arrived: created repositories, files of commits, large files by their sums."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}
        self.refuse: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format, *args):
        pass

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        if self.path.startswith("/api/models/kyutai/original"):
            return self.answer({"id": "kyutai/original", "cardData": {"license": "cc-by-4.0"}})
        self.answer({"error": "not found"}, 404)

    def do_PUT(self):
        self.server.large[self.path.rsplit("/", 1)[1]] = self.body()
        self.answer({})

    def do_POST(self):
        body = self.body()
        if self.server.refuse or self.headers.get("Authorization") != "Bearer hf_test":
            return self.answer({"error": "no rights"}, self.server.refuse or 401)
        at = f"http://127.0.0.1:{self.server.server_port}"
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer({"url": f"{at}/me/tiny-q4"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            kinds = [
                {"path": f["path"], "uploadMode": mode_of(f["path"]), "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.answer({"files": kinds})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                o | {"actions": {"upload": {"href": f"{at}/large/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return self.answer({"transfer": "basic", "objects": objects})
        for line in body.splitlines():
            self.take(json.loads(line))
        self.answer({"commitUrl": f"{at}/me/tiny-q4/commit/1", "commitOid": "1"})

    def take(self, line):
        value = line["value"]
        if line["key"] == "file":
            self.server.files[value["path"]] = base64.b64decode(value["content"])
        if line["key"] == "lfsFile":
            self.server.files[value["path"]] = self.server.large[value["oid"]]


def mode_of(path):
    return "lfs" if path.endswith(".safetensors") else "regular"


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits between tries
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    write_model(tmp_path / "source")
    assert main(["quantize", str(tmp_path / "source"), str(tmp_path / "q4")]) == 0
    return tmp_path / "q4"


def push(target, *options, repository="me/tiny-q4"):
    return main(["quantize", "push", str(target), repository, *options])


def said_to_come_from(target, source):
    """As if it had been made of a repository, here and in its report."""
    for name in ("config.json", "quantize_report.json"):
        raw = json.loads((target / name).read_text())
        made = raw["quantization" if name == "config.json" else "made"]
        made["source"], made["revision"] = source, "abc123"
        (target / name).write_text(json.dumps(raw))


def test_every_file_arrives_with_a_card(hub, target, capsys):
    said_to_come_from(target, "kyutai/original")
    (target / "README.md").write_text("an old card")
    assert push(target, "--private") == 0
    assert "/me/tiny-q4" in capsys.readouterr().out
    (created,) = hub.created
    assert created["name"] == "tiny-q4" and created["organization"] == "me"
    assert created.get("visibility") == "private" or created.get("private") is True
    for path in target.iterdir():
        if path.name != "README.md":
            assert hub.files[path.name] == path.read_bytes(), path.name
    weights = (target / "model.q4.safetensors").read_bytes()
    assert hub.large[sha256(weights).hexdigest()] == weights
    card = hub.files["README.md"].decode()
    front = dict(line.split(": ", 1) for line in card.split("---\n")[1].strip().splitlines())
    assert json.loads(front["base_model"]) == "kyutai/original"
    assert json.loads(front["license"]) == "cc-by-4.0"
    assert json.loads(front["library_name"]) == "moshi-local"
    assert "mlx" in json.loads(front["tags"])
    assert "at revision `abc123`" in card and "| `*` | 4 bit, group 32 |" in card
    assert "moshi chat --model me/tiny-q4" in card and "5.02 bits per weight" in card


def test_a_dry_run_prints_the_card_and_uploads_nothing(hub, target, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    capsys.readouterr()
    assert push(target, "--dry-run", "--license", "mit") == 0
    card = capsys.readouterr().out
    assert card.startswith("---\n") and 'license: "mit"' in card and "# tiny-q4" in card
    assert not hub.created and not hub.files


def test_the_report_with_audio_is_in_the_card(hub, target, capsys, tmp_path):
    (tmp_path / "codes").mkdir()
    codes = np.random.default_rng(0).integers(0, 40, (5, 12))
    np.save(tmp_path / "codes" / "a.npy", codes)
    stored = target / "quantize_report.json"
    command = ["quantize", "report", str(tmp_path / "source"), str(target), "--frames", "5"]
    command += ["--audio", str(tmp_path / "codes"), "--json", str(stored), "--force"]
    assert main(command) == 0
    capsys.readouterr()
    assert push(target, "--dry-run") == 0
    card = capsys.readouterr().out
    assert "| codebook 2 |" in card and "frames of greedy talk" in card


def no_report(target):
    (target / "quantize_report.json").unlink()


def broken_report(target):
    (target / "quantize_report.json").write_text("{}")


def not_quantized(target):
    config = json.loads((target / "config.json").read_text())
    del config["quantization"]
    (target / "config.json").write_text(json.dumps(config))


def another_report(target):
    path = target / "quantize_report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made": {}}))


@pytest.mark.parametrize(
    ("change", "repository", "message"),
    [
        (lambda t: None, "tiny q4", "is no repository's name"),
        (lambda t: None, "tiny", "is no repository's name"),
        (no_report, "me/tiny-q4", "has no report: make one with"),
        (broken_report, "me/tiny-q4", "can't be read as a report"),
        (another_report, "me/tiny-q4", "is about another model"),
        (not_quantized, "me/tiny-q4", "wasn't made by `moshi quantize`"),
        (lambda t: (t / "model.q4.safetensors").unlink(), "me/tiny-q4", "lacks its weights"),
        (lambda t: (t / "config.json").unlink(), "me/tiny-q4", "has no config.json"),
    ],
)
def test_what_is_no_quantized_model_is_refused(hub, target, capsys, change, repository, message):
    change(target)
    wrong = "repository's name" in message  # of the command line itself, status 2
    assert push(target, repository=repository) == (2 if wrong else 1)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said, said
    assert not hub.created


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_hub_that_refuses(hub, target, capsys, status):
    hub.refuse = status
    assert push(target) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    wanted = "the hub refused me/tiny-q4 (422" if status == 422 else "doesn't let this token write"
    assert said.startswith("error: ") and wanted in said, said
    assert not hub.files


def test_no_token(hub, target, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert push(target) == 1
    assert "no token for the hub: run `hf auth login`" in capsys.readouterr().err


def test_no_network(hub, target, capsys, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert push(target) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: me/tiny-q4 couldn't be uploaded") and "network" in said


def test_names_of_others_stay_in_their_line_of_the_card(target):
    """A config says what it likes about where its weights come from."""
    rules = [["a\n|b", {"bits": 4, "group_size": 32, "mode": "affine"}]]
    made = {"source": "x`\n\n# Evil\n", "revision": "\x1b[31m", "recipe": {"rules": rules}}
    report = replace(read_report(target, None), made=made)
    card = model_card("me/tiny", report, "mit\nevil: true", False)
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert [line.partition(":")[0] for line in front.splitlines()][-1] == "license"
    assert "# Evil" not in body.splitlines() and "\x1b" not in card
    assert "`a\\n\\|b`" in body
