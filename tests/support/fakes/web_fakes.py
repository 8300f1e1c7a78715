"""A fake engine and a running server for the web tests: no model, no network but loopback."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from app.events import Settings
from app.talk.engine import EngineReply, MakeEngine
from app.talk.session import TalkSession
from app.web.dropped import DroppedFiles
from app.web.line import Line
from app.web.recordings import Recordings
from app.web.security import Guard
from app.web.server import WebServer
from moshi_mlx.errors import MoshiError

FRAME = 1920
PATIENCE_S = 60.0  # for what happens at once on an idle machine
WORDS = (" Hello", "!", " I", " am", " Mo", "shi", ".")


class FakeTalk:
    """Says a word every third frame and echoes the user's loudness as a tone."""

    encodes_ahead = False
    notes: tuple[str, ...] = ()
    prompt_until: int | None = None

    def __init__(self, engine: "FakeEngine", settings: Settings) -> None:
        self.seed = settings.seed or 0
        self.heard: list[np.ndarray] = []
        self._engine, self._steps = engine, 0

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        if self._engine.step_s:
            time.sleep(self._engine.step_s)
        if self._engine.raises is not None:
            raise self._engine.raises
        self.heard.append(frame)
        n, self._steps = self._steps, self._steps + 1
        if n == 0:
            return EngineReply(None)
        at = np.arange(n * FRAME, (n + 1) * FRAME)
        loud = 0.05 + float(np.abs(frame).max(initial=0.0)) / 2
        tone = (loud * np.sin(2 * np.pi * 330 * at / 24_000)).astype(np.float32)
        text = WORDS[n // 3 % len(WORDS)] if n % 3 == 0 else ""
        return EngineReply(tone, text, 100 + n)

    def close(self) -> None:
        self._engine.closed += 1


@dataclass
class FakeEngine:
    name: str = "fake"
    recipe: str = "fp32"
    mark: str = "none"
    revision: str = ""
    adapter: str = ""
    personas: bool = False
    voices: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    step_s: float = 0.0
    raises: Exception | None = None
    talks: list[FakeTalk] = field(default_factory=list)
    settings: list[Settings] = field(default_factory=list)
    closed: int = 0

    def begin(self, settings: Settings) -> FakeTalk:
        if settings.text_top_k == 13:
            raise MoshiError("text_top_k 13 is unlucky; choose another")
        talk = FakeTalk(self, settings)
        self.talks = [*self.talks[-1:], talk]
        self.settings.append(settings)
        return talk

    def keep_warm(self) -> None:
        pass

    def memory_bytes(self) -> int:
        return 1_000_000


@dataclass
class Running:
    """A server on a free loopback port, in the test's event loop."""

    server: WebServer
    session: TalkSession
    engine: FakeEngine
    port: int
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chat(self, query: str = "", **options):
        return self.http.ws_connect(f"{self.url}/api/chat{query}", **options)


@contextlib.asynccontextmanager
async def running(
    engine: FakeEngine | None = None,
    change: Callable[[WebServer], None] = lambda server: None,
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
    recordings: Recordings | None = None,
    record_s: float = PATIENCE_S,
    quiet_s: float = PATIENCE_S,
    make_engine: MakeEngine | None = None,
    **dropped,
) -> AsyncIterator[Running]:
    """`make_engine`: of a model that isn't `engine`, made on the session's thread."""
    engine = engine or FakeEngine()
    session = TalkSession(make_engine or (lambda: engine))
    recordings = recordings or Recordings()
    line = Line(session, recordings, record_s, quiet_s)
    files = DroppedFiles(recordings.folder, **dropped)
    server = WebServer(line, guard or Guard.make("127.0.0.1"), recordings, dropped=files)
    change(server)
    try:
        async with server.listening("127.0.0.1", 0, tls), aiohttp.ClientSession() as http:
            session.start()
            yield Running(server, session, engine, server.port, http)
    finally:
        await asyncio.to_thread(session.stop)
        recordings.remove()


def pcm_message(samples: np.ndarray) -> bytes:
    return b"\x10" + (samples * 32767).astype("<i2").tobytes()


async def receive(
    socket: aiohttp.ClientWebSocketResponse, kind: int, timeout_s: float = PATIENCE_S
) -> bytes:
    """The payload of the next message of one type; fails when the socket closes first."""
    async with asyncio.timeout(timeout_s):
        while True:
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, (message.type, message.data)
            if message.data[0] == kind:
                return message.data[1:]


async def close_of(
    socket: aiohttp.ClientWebSocketResponse, timeout_s: float = PATIENCE_S
) -> tuple[int | None, list[bytes]]:
    """Read to the end: the close code, and all messages before it."""
    seen: list[bytes] = []
    async with asyncio.timeout(timeout_s):
        async for message in socket:
            seen.append(message.data)
    return socket.close_code, seen


async def eventually(test: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
    """Wait until `test()` holds; returns the seconds it took."""
    start = time.monotonic()
    while not test():
        assert time.monotonic() - start < timeout_s, "it never happened"
        await asyncio.sleep(0.01)
    return time.monotonic() - start


def model_threads() -> int:
    return sum(thread.name == "moshi-model" for thread in threading.enumerate())
