"""Serve a local page to talk with Moshi, and Kyutai's protocol for every client that speaks it."""

import argparse
import asyncio
import os
import sys
import webbrowser
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from moshi_mlx.errors import MoshiError, UsageError, printable

from ..audio.keep_awake import KeepAwake
from ..events import Event, Notice, Settings
from ..options.adapters import adapters_from
from ..options.mark import add_mark_options, index_from
from ..options.model import (
    add_model_options,
    add_sampling_options,
    engine_from,
    sampling_from,
    source_from,
)
from ..options.persona import add_persona_options, persona_from
from ..options.resume import add_resume_option, resumed
from ..options.your_words import MakeWords, add_words_option, words_from
from ..provenance.index_writer import IndexWriter
from ..provenance.marking import UNMARKED
from ..provenance.seal import seal
from ..talk.engine import MakeEngine
from ..talk.kept_talk import AskedModel, KeptTalk
from ..talk.session import TalkSession
from ..web.dropped import DroppedFiles
from ..web.kept_talks import KeptTalks
from ..web.line import Line
from ..web.recordings import Recordings
from ..web.security import Guard, is_loopback
from ..web.server import WebServer
from .signals import Signals, leave

if TYPE_CHECKING:
    from ..web.certificates.option import Tls

PORT = 8998  # Kyutai's
STOP_S = 0.5  # for the model's last step
SAVE_S = 0.5  # for a talk that is being saved
WORDS_S = 0.2  # for the last words of a visitor's, who has been sent away by then
TALKS = Path("moshi-talks")  # where `moshi chat` saves them, too


@dataclass(frozen=True)
class Place:
    """Where to listen, and how safely. `browse`: open the page in a browser."""

    host: str
    port: int
    guard: Guard
    tls: "Tls | None"
    static: Path | None
    browse: bool


@dataclass(frozen=True)
class Hosted:
    """What is talked with. source: how the model was asked for; save_to: where visitors save
    talks, None for nowhere; kept: a saved talk that they may go on with; index: where landmarks
    of Moshi's sound go; words: makes what writes down what visitors say."""

    settings: Settings
    make_engine: MakeEngine
    source: AskedModel
    save_to: Path | None = None
    kept: KeptTalk | None = None
    index: Path | None = None
    words: MakeWords | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=PORT, help="0: any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, this machine alone); elsewhere the "
        "printed address holds a token that visitors need",
    )
    parser.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        help="open the page in a browser (default: when started from a terminal)",
    )
    safety = parser.add_argument_group("who may connect")
    safety.add_argument(
        "--tls",
        metavar="CERT,KEY",
        help="https with these PEM files, or `self` for a self-made certificate: browsers give "
        "the microphone to https and localhost only",
    )
    safety.add_argument(
        "--static", type=Path, metavar="DIR", help="serve the page in this folder in place of ours"
    )
    safety.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="a site whose pages may connect too; may be repeated",
    )
    add_words_option(parser.add_argument_group("transcript"))
    talks = parser.add_argument_group("saved talks")
    add_resume_option(talks)
    talks.add_argument(
        "--save-to",
        type=Path,
        metavar="DIR",
        help=f"where talks go that are saved on the page (default: {TALKS} where only this machine "
        "may connect, else nowhere)",
    )
    add_model_options(parser, several=True)
    add_persona_options(parser)
    add_sampling_options(parser)
    add_mark_options(parser)


def run(args: argparse.Namespace) -> int:
    """0 after Ctrl-C, 1 with one line on stderr. Raises MoshiError."""
    place = place_from(args)
    wanted = wanted_from(args)
    with Signals(heed_nohup=True, interrupted=0) as signals:
        return asyncio.run(Host(place, wanted, signals).serve())


def wanted_from(args: argparse.Namespace) -> Hosted:
    """Raises MoshiError."""
    kept = resumed(args)  # its model's options become args'
    who = {} if kept else persona_from(args) | {"adapter": adapters_from(args).chosen or None}
    here = is_loopback(args.host)
    return Hosted(
        Settings(**who, **sampling_from(args)),
        engine_from(args, None if kept is None else kept.dtype),
        source_from(args),
        (TALKS if here else None) if args.save_to is None else args.save_to.expanduser(),
        kept,
        index_from(args),
        words_from(args),
    )


def place_from(args: argparse.Namespace) -> Place:
    if not 0 <= args.port < 65536:
        raise UsageError(f"--port {args.port}: a port lies between 0 and 65535")
    if not args.host.strip():
        raise UsageError("--host is empty: give an address, 127.0.0.1 for this machine only")
    tls = None
    if args.tls:
        from ..web.certificates.option import parse_option

        tls = parse_option(args.tls, args.host, certificates())
    scheme = "https" if tls else "http"
    browse = sys.stdout.isatty() if args.open is None else args.open
    guard = Guard.make(args.host, args.allow_origin, scheme)
    return Place(args.host, args.port, guard, tls, args.static, browse)


def certificates() -> Path:
    """Where a self-made certificate is kept from start to start."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "moshi-local"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moshi-local"


class Host:
    """One server's life, on one event loop."""

    def __init__(self, place: Place, wanted: Hosted, signals: Signals) -> None:
        """Raises MoshiError for an index of no use."""
        self._place, self._wanted = place, wanted
        self._session, self._signals = TalkSession(wanted.make_engine), signals
        self._stop = asyncio.Event()
        self._index = None if wanted.index is None else IndexWriter(wanted.index, tell)
        if self._index is not None:
            self._session.subscribe(self._index)
        self._awake = KeepAwake()

    async def serve(self) -> int:
        """Until Ctrl-C or a failure; returns the exit status. Raises MoshiError."""
        loop = asyncio.get_running_loop()
        self._signals.call(lambda: loop.call_soon_threadsafe(self._stop.set))
        with Recordings(seal, partial(print, file=sys.stderr, flush=True)) as recordings:
            wanted = self._wanted
            line = Line(self._session, recordings, writes_words=wanted.words is not None)
            words = None if wanted.words is None else wanted.words(self._beside(line))
            if words is not None:
                self._session.subscribe(words)
            talks = KeptTalks(self._session, wanted.save_to, wanted.source, wanted.kept)
            try:
                status = await self._open(line, recordings, talks)
            except OSError:  # what it says goes nowhere
                await asyncio.to_thread(self._session.stop, STOP_S)
                raise
            finally:
                if words is not None:
                    await asyncio.to_thread(words.close, WORDS_S)
            await asyncio.to_thread(talks.close, SAVE_S)
            if not await asyncio.to_thread(self._session.stop, STOP_S):
                recordings.remove()
                leave(self._signals.status or status)  # a model that loads can't be interrupted
        if self._index is not None:
            await asyncio.to_thread(self._index.close)
        return status

    async def _open(self, line: Line, recordings: Recordings, talks: KeptTalks) -> int:
        place = self._place
        authority = None if place.tls is None else place.tls.authority
        tell = partial(print, file=sys.stderr, flush=True)
        server = WebServer(
            line,
            place.guard,
            recordings,
            static=place.static,
            settings=self._wanted.settings,
            authority=authority,
            dropped=DroppedFiles(recordings.folder, tell=tell),
            talks=talks,
        )
        context = None if place.tls is None else place.tls.context
        async with AsyncExitStack() as open_for_visitors:
            try:
                listening = server.listening(place.host, place.port, context, tell)
                await open_for_visitors.enter_async_context(listening)
            except OSError as error:
                raise self._no_place(error) from None
            self._awake.start()  # until the model is there, downloads included
            self._session.start()
            self._announce(server.port)
            return await self._until_over(line)

    @staticmethod
    def _beside(line: Line) -> Callable[[Event], None]:
        """Takes words of the visitor's, and what befalls who writes them down."""

        def take(event: Event) -> None:
            if isinstance(event, Notice):
                tell(event)
            line.beside(event)

        return take

    def _no_place(self, error: OSError) -> MoshiError:
        why = error.strerror or str(error)
        return MoshiError(
            f"can't listen on {self._place.host} port {self._place.port} ({why}); "
            "choose another --port or --host"
        )

    def _announce(self, port: int) -> None:
        address = self._address(port)
        print(f"Talk with Moshi at {address}  (Ctrl-C ends)", flush=True)
        elsewhere = not is_loopback(self._place.host)
        if elsewhere and self._place.tls is not None and self._place.tls.authority is not None:
            print(
                "An iPhone or iPad needs this machine's certificate once: the page says how.",
                file=sys.stderr,
            )
        if elsewhere and self._place.tls is None:
            print(
                "Browsers give the microphone to https and localhost only: "
                "add --tls self to talk from another device.",
                file=sys.stderr,
            )
        if self._place.browse:
            webbrowser.open(address)

    def _address(self, port: int) -> str:
        place, name = self._place, self._place.host
        if name in ("0.0.0.0", "::"):
            from ..web.certificates.tls import bonjour_name, local_addresses

            name = next((a for a in local_addresses() if not is_loopback(a)), "localhost")
            if place.tls is not None and place.tls.authority is not None:
                name = bonjour_name()  # stays when the address changes, and so its certificate
        if ":" in name:
            name = f"[{name}]"
        query = f"?token={place.guard.token}" if place.guard.token else ""
        return f"{place.guard.scheme}://{name}:{port}/{query}"

    async def _until_over(self, line: Line) -> int:
        loaded = asyncio.create_task(self._tell_ready(line))
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stop, line.failed, loaded}, return_when=asyncio.FIRST_COMPLETED)
        if loaded.done():
            loaded.result()  # OSError: nobody reads what it says
        await asyncio.wait({stop, line.failed}, return_when=asyncio.FIRST_COMPLETED)
        loaded.cancel()
        stop.cancel()
        if line.failed.done():
            print(f"error: {line.failed.result()}", file=sys.stderr)
            return 1
        return 0

    async def _tell_ready(self, line: Line) -> None:
        await line.ready.wait()
        self._awake.stop()
        if line.model is not None:
            model = line.model
            print(f"{model.title} is ready", flush=True)
            if model.mark == "none":
                print(UNMARKED, flush=True)


def tell(notice: Notice) -> None:
    print(printable(notice.message), file=sys.stderr, flush=True)
