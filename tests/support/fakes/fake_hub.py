"""A small server on 127.0.0.1 that answers like the Hugging Face hub."""

import hashlib
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 400
MODEL = {
    "config.json": json.dumps(
        {"moshi_name": "model.q4.safetensors", "mimi_name": "mimi.safetensors"}
    ).encode(),
    "model.q4.safetensors": WEIGHTS,
    "model.q8.safetensors": b"another size, never asked for",
    "mimi.safetensors": b"mimi" * 100,
    "tokenizer_spm_32k_3.model": b"pieces",
    "README.md": b"# never fetched",
}


class Hub(ThreadingHTTPServer):
    """State of the fake: the repositories, a byte count to break after, and the requests seen.

    Of a gated repository, as at the hub, everybody reads the list of files, and those whose token
    is in `granted` read the files; cards: repository -> its model card's data; commit: of all of
    them; etag: of every file, instead of its sum; silent_from: the file that nothing comes of.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = {"kyutai/moshi-test": dict(MODEL)}
        self.gated: set[str] = set()
        self.granted: set[str] = set()
        self.cards: dict[str, dict] = {}
        self.commit, self.etag, self.silent_from = COMMIT, "", ""
        self.over = threading.Event()
        self.break_after: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub  # type: ignore[assignment]

    def log_message(self, format, *args):
        pass

    def fail(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body_wanted):
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[0] == "api"
        name = "/".join(parts[2:4] if api else parts[:2])
        if name not in self.server.repositories:
            return self.fail(404 if not api else 401, "RepoNotFound")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if name in self.server.gated and not api and token not in self.server.granted:
            return self.fail(403 if token else 401, "GatedRepo")
        files = self.server.repositories[name]
        revision = parts[5] if api and len(parts) > 5 else "main" if api else parts[3]
        if revision not in ("main", "v1", self.server.commit):
            return self.fail(404, "RevisionNotFound")
        if api:
            siblings = [{"rfilename": k, "size": len(v)} for k, v in files.items()]
            body = {"id": name, "sha": self.server.commit, "siblings": siblings}
            body |= {"cardData": self.server.cards.get(name, {"license": "cc-by-4.0"})}
            body |= {"gated": "auto" if name in self.server.gated else False}
            return self.send(json.dumps(body).encode(), {}, True)
        path = unquote("/".join(parts[4:]))
        if path not in files:
            return self.fail(404, "EntryNotFound")
        honest = MODEL if name == "kyutai/moshi-test" else files
        etag = self.server.etag or hashlib.sha256(honest.get(path, files[path])).hexdigest()
        if path == self.server.silent_from:
            self.server.over.wait(60)
        headers = {"X-Repo-Commit": self.server.commit, "ETag": f'"{etag}"'}
        self.send(files[path], headers, body_wanted)

    def send(self, body, headers, body_wanted):
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if not body_wanted:
            return
        limit = self.server.break_after
        if limit is not None and len(body) - start > limit:
            self.wfile.write(body[start : start + limit])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body[start:])

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)


@contextmanager
def serving(monkeypatch):
    """A running fake that huggingface_hub takes for the hub."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    # Bytes are kept by the chunk: 10 MB in earnest.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits between tries
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
