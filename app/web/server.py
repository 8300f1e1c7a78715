"""The web server behind `moshi web`: the page, `/api/chat`, `/api/status`, `/api/trace`, files."""

import asyncio
import contextlib
import mimetypes
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import CookieError
from pathlib import Path
from urllib.parse import quote

from aiohttp import WSCloseCode, web
from aiohttp.abc import AbstractStreamWriter

from moshi_mlx.errors import MoshiError

from ..events import Settings
from . import protocol
from .door import Door
from .dropped import DroppedFiles, RefusedFileError
from .kept_talks import KeptTalks, going_on
from .line import CLOSE_BUSY, CLOSE_FAILED, CLOSE_REFUSED, BusyError, Line
from .params import RefusedError, parse
from .recordings import FILES, Recordings
from .request_log import request_log
from .security import COMMON_HEADERS, OWN_PAGE_CSP, STATIC_PAGE_CSP, Guard, basic_password
from .visit import LeftError, Visit

PAGE_DIR = Path(__file__).parent / "page"
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
AUTHORITY_PATH = "/moshi-ca.crt"
AUTHORITY_TYPE = "application/x-x509-ca-cert"
HEARTBEAT_S = 10.0
SHUTDOWN_S = 1.0
PIECE_BYTES = 1 << 18  # of a file that comes
SEND_S, SEND_FILE_S = 30.0, 600.0  # the longest that a client may take for an answer
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FileAnswer(web.FileResponse):
    """A file that `_answer` sends: aiohttp, which prepares it once more, would send it again."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


@dataclass
class WebServer:
    """Routes and rules around one `Line`. `static`: a folder to serve in place of our page;
    `settings`: of conversations whose visitor asks for nothing else."""

    line: Line
    guard: Guard
    recordings: Recordings | None = None
    port: int = 0  # part of the cookie's name: cookies are shared between ports
    static: Path | None = None
    settings: Settings = field(default_factory=Settings)
    authority: bytes | None = None  # the certificate that phones may install, DER
    dropped: DroppedFiles | None = None  # None: no file is looked at
    talks: KeptTalks | None = None  # None: none is saved, none goes on
    _page: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    _door: Door | None = None

    def app(self) -> web.Application:
        """An aiohttp application. Raises MoshiError when the folder to serve is of no use."""
        if self.static is None:
            self._page = read_page()
        elif not (self.static / "index.html").is_file():
            raise MoshiError(f"--static {self.static}: there is no index.html in that folder")
        app = web.Application(middlewares=[self._answer], client_max_size=1024)
        app.router.add_get("/api/chat", self._chat)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/recordings/{id}/{name}", self._recording)
        app.router.add_get("/api/talks/{name}", self._talk)
        app.router.add_post("/api/trace", self._trace)
        app.router.add_get(AUTHORITY_PATH, self._authority)
        app.router.add_get("/{path:.*}", self._file if self.static else self._own_file)
        app.on_shutdown.append(self._shut)
        return app

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer to the last byte within a time, unless it is a talk. What comes next waits."""
        assert self._door is not None
        async with self._door.answering(request.protocol):
            response = await self._dress(request, handler)
            seconds = SEND_FILE_S if isinstance(response, FileAnswer) else SEND_S
            try:
                async with asyncio.timeout(seconds):
                    await response.prepare(request)
                    await response.write_eof()
            except TimeoutError:
                raise ConnectionError("the client takes nothing") from None
        return response

    async def _dress(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who may not be here; add the safety headers to everything else."""
        refusal = self.guard.host_refusal(request.headers)
        if refusal is None and request.path.startswith("/api/"):
            refusal = self.guard.refusal(request.headers, self._tokens(request))
        if refusal is not None:
            response: web.StreamResponse = web.Response(status=403, text=f"{refusal}\n")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as status:
                response = web.Response(status=status.status, text=f"{status.reason}\n")
        if not response.prepared:
            for header, value in COMMON_HEADERS.items():
                response.headers.setdefault(header, value)
            csp = STATIC_PAGE_CSP if self.static else OWN_PAGE_CSP
            response.headers["Content-Security-Policy"] = csp
        return response

    @contextlib.asynccontextmanager
    async def listening(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> AsyncIterator[None]:
        """While the block runs; `port` 0 becomes any free one. Raises OSError, MoshiError."""
        runner = web.AppRunner(
            self.app(),
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            logger=request_log(),
            auto_decompress=False,  # a sound file comes as it is; rubbish is no bug of ours
        )
        await runner.setup()
        assert runner.server is not None
        self._door = Door(runner.server, tls, tell)
        try:
            self.port = await self._door.listen(host, port)
            yield
        finally:
            self._door.shut()
            await runner.cleanup()

    @property
    def _cookie(self) -> str:
        return f"moshi-token-{self.port}"

    def _tokens(self, request: web.Request) -> list[str]:
        try:
            cookie = request.cookies.get(self._cookie, "")
        except CookieError:  # of another program at this address, say
            cookie = ""
        return [
            request.query.get("token", ""),
            cookie,
            basic_password(request.headers.get("Authorization", "")),
        ]

    async def _authority(self, request: web.Request) -> web.Response:
        """For a phone to install, before it can connect: nobody is asked for a token here."""
        if self.authority is None:
            raise web.HTTPNotFound
        return web.Response(body=self.authority, headers={"Content-Type": AUTHORITY_TYPE})

    async def _own_file(self, request: web.Request) -> web.Response:
        if "token" in request.query:
            return self._keep_token(request)
        found = self._page.get(request.path)
        if found is None:
            raise web.HTTPNotFound
        body, content_type = found
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """A file of the `--static` folder; never one outside it, whatever the path says."""
        if "token" in request.query:
            return self._keep_token(request)
        assert self.static is not None
        root = self.static.resolve()
        try:
            path = (root / request.match_info["path"].lstrip("/")).resolve()
            path = path / "index.html" if path.is_dir() else path
            inside = path.is_relative_to(root) and path.is_file()
        except (OSError, ValueError):
            raise web.HTTPNotFound from None
        if not inside:
            raise web.HTTPNotFound
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return FileAnswer(path, headers={"Content-Type": content_type})

    def _keep_token(self, request: web.Request) -> web.Response:
        """Move the token from the address into a cookie, so that it stays out of the history."""
        wrong = self.guard.keyless([request.query["token"]])
        if wrong is not None:
            return web.Response(status=403, text=f"{wrong}\n")
        place = "/" + quote(request.path.lstrip("/\\"))  # "//host" would be another server's
        response = web.Response(status=303, headers={"Location": place})
        response.set_cookie(
            self._cookie,
            request.query["token"],
            httponly=True,
            samesite="Strict",
            secure=self.guard.scheme == "https",
        )
        return response

    async def _status(self, request: web.Request) -> web.Response:
        status, model = self.line.session.status, self.line.model
        return web.json_response(
            {
                "state": status.state,
                "model": status.model,
                "recipe": status.recipe,
                "adapter": status.adapter,
                "personas": model is not None and model.personas,
                "mark": "" if model is None else model.mark,
                "voices": [] if model is None else list(model.voices),
                "adapters": [] if model is None else list(model.adapters),
                "busy": self.line.busy(),
                "can_take_over": self.line.can_take_over(),
                "waiting": self.line.waiting,
                "talks": [] if self.talks is None else self.talks.offers,
            }
        )

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        """A file of the last recorded conversation, for the visitor who was told its address."""
        name = request.match_info["name"]
        path = None
        if self.recordings is not None:
            path = await self.recordings.file(request.match_info["id"], name)
        if path is None:
            raise web.HTTPNotFound
        headers = {
            "Content-Type": FILES[name][1],
            "Content-Disposition": f'attachment; filename="moshi-{name}"',
            "Cache-Control": "no-store",
        }
        return FileAnswer(path, headers=headers)

    async def _talk(self, request: web.Request) -> web.Response:
        """Whether a saved talk is still there, and how long it is, for who knows its name."""
        name, found = request.match_info["name"], None
        if self.talks is not None:
            found = await asyncio.to_thread(self.talks.find, name)
        if found is None:
            raise web.HTTPNotFound
        told = {"name": name, "seconds": round(found.seconds)}
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    async def _trace(self, request: web.Request) -> web.Response:
        """Whether a sound file, the request's body, was made by moshi-local, and what shows it."""
        if self.dropped is None:
            raise web.HTTPNotFound

        def gone() -> bool:
            return request.transport is None or request.transport.is_closing()

        try:
            if (request.content_length or 0) > self.dropped.most_bytes:
                raise self.dropped.too_large()
            pieces = request.content.iter_chunked(PIECE_BYTES)
            told = await self.dropped.look(request.query.get("name", ""), pieces, gone)
        except RefusedFileError as refused:
            return web.Response(status=refused.status, text=f"{refused}\n")
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            max_msg_size=protocol.MAX_MESSAGE_BYTES,
            heartbeat=HEARTBEAT_S,
            autoping=False,  # a visit counts them
            timeout=SHUTDOWN_S,
            compress=False,
        )
        try:
            await socket.prepare(request)
        except ValueError:  # a key that isn't even ASCII
            raise web.HTTPBadRequest from None
        try:
            left = await self._converse(request, socket)
        except BusyError as busy:
            if request.query.get("codec") != "pcm":  # all that Kyutai's clients show is text
                await say(socket, protocol.text(f" ({busy}. Try again later.)"))
            left = LeftError(str(busy), CLOSE_BUSY)
        except RefusedError as refused:
            left = LeftError(str(refused), CLOSE_REFUSED)
        except MoshiError as failed:
            left = LeftError(str(failed), CLOSE_FAILED)
        if left.code != WSCloseCode.OK:
            await say(socket, protocol.error(str(left)))
        await socket.close(code=left.code, message=str(left).encode()[:120])
        return socket

    async def _converse(self, request: web.Request, socket: web.WebSocketResponse) -> LeftError:
        query = parse(request.query)
        await self.line.ready.wait()
        status, model = lambda: self.line.session.status, self.line.model
        usual, save, talks = self.settings, None, self.talks
        if talks is not None:
            kept = await talks.asked(query)
            usual = usual if kept is None else going_on(kept, usual)
            save = talks.save if talks.saves else None
        elif query.resume:
            raise RefusedError("no talk is saved here; begin a new one")
        words = self.line.writes_words
        return await self.line.hold(Visit(socket, query, usual, status, model, save, words))

    async def _shut(self, app: web.Application) -> None:
        self.line.send_all_away("the server stops")
        if self.recordings is not None:
            await self.recordings.close()


async def say(socket: web.WebSocketResponse, message: bytes) -> None:
    """A last word to a client that may have gone already."""
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(message)


def read_page() -> dict[str, tuple[bytes, str]]:
    """Our page, by address: read once, so no request ever reaches the file system."""
    page = {
        f"/{path.name}": (path.read_bytes(), PAGE_TYPES[path.suffix])
        for path in PAGE_DIR.iterdir()
        if path.suffix in PAGE_TYPES
    }
    page["/"] = page["/index.html"]
    return page
