"""The server's door: it listens, and decides how many connections stand open and for how long.

A connection costs a file, of which macOS gives a process 256, and whoever reaches the port may open
one and say nothing, or half of a request. So there are never more than MAX_CONNECTIONS, nor more
than MAX_PER_ADDRESS from one address: the one that has waited longest without a request goes for
each new one, and one that hasn't asked for anything within REQUEST_S goes anyway. Those whose
request is being answered, talks above all, are never closed here.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

MAX_CONNECTIONS = 64
MAX_PER_ADDRESS = 32
REQUEST_S = 10.0  # from the connection, or the last answer, to the end of a request
TLS_S = 5.0  # for the handshake
SWEEP_S = 0.5
TELL_EVERY_S = 60.0
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(eq=False)
class Connection:
    """One client. `busy`: a request of its is being answered."""

    socket: socket.socket
    address: str
    since_s: float  # it was made, or its last answer ended
    transport: asyncio.BaseTransport | None = None
    busy: bool = False

    @property
    def gone(self) -> bool:
        return self.socket.fileno() == -1

    def close(self) -> None:
        """At once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
        else:  # its handshake isn't over
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


class Door:
    """On an event loop. `make_protocol` gives what speaks with one client, aiohttp's server."""

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None = None,
        tell: Callable[[str], None] = lambda line: None,
        request_s: float = REQUEST_S,
    ) -> None:
        """`tell` takes a line for the log, one a minute at most."""
        self._make_protocol, self._tls, self._tell = make_protocol, tls, tell
        self._request_s = request_s
        self._open: dict[asyncio.BaseProtocol, Connection] = {}
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._turned_away, self._told_s = 0, -TELL_EVERY_S

    async def listen(self, host: str, port: int) -> int:
        """On every address of `host`; returns the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, *_, address in dict.fromkeys(found):
                if self._listeners and port == 0:  # the second family on the first one's port
                    address = (address[0], self._port, *address[2:])
                self._listeners.append(listener(family, address))
        except OSError:
            self.shut()
            raise
        for each in self._listeners:
            self._start(self._accept(each))
        self._start(self._sweep())
        return self._port

    @property
    def _port(self) -> int:
        return self._listeners[0].getsockname()[1]

    @contextlib.asynccontextmanager
    async def answering(self, protocol: asyncio.BaseProtocol) -> AsyncIterator[None]:
        """While a request of this connection is answered."""
        connection = self._open.get(protocol)
        if connection is not None:
            connection.busy = True
        try:
            yield
        finally:
            if connection is not None:
                connection.busy, connection.since_s = False, time.monotonic()

    def shut(self) -> None:
        """No new connections; those that are open stay."""
        for task in self._tasks:
            task.cancel()
        for each in self._listeners:
            each.close()
        self._listeners.clear()

    def _start(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in NO_MORE_FILES:  # taken by something else in this process
                    self._make_room(self._waiting(), "no file is left")
                await asyncio.sleep(0.05)
                continue
            self._let_in(client, str(address[0]))

    def _let_in(self, client: socket.socket, address: str) -> None:
        """Or not, where all who are in are being answered."""
        self._forget_gone()
        of_address = [one for one in self._open.values() if one.address == address]
        if len(of_address) >= MAX_PER_ADDRESS:
            room = self._make_room([one for one in of_address if not one.busy], "too many")
        elif len(self._open) >= MAX_CONNECTIONS:
            room = self._make_room(self._waiting(), "too many")
        else:
            room = True
        if not room:
            client.close()
            return
        protocol = self._make_protocol()
        self._open[protocol] = Connection(client, address, time.monotonic())
        self._start(self._greet(protocol, self._open[protocol]))

    async def _greet(self, protocol: asyncio.BaseProtocol, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        options = {"ssl_handshake_timeout": TLS_S} if self._tls else {}
        try:
            connection.transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection.socket, ssl=self._tls, **options
            )
        except OSError:  # it has gone, or speaks no TLS
            connection.socket.close()

    def _waiting(self) -> list[Connection]:
        return [one for one in self._open.values() if not one.busy]

    def _make_room(self, candidates: list[Connection], why: str) -> bool:
        """Close the one that has waited longest; False when all are being answered."""
        self._count(why)
        oldest = min(candidates, key=lambda one: one.since_s, default=None)
        if oldest is None:
            return False
        oldest.close()
        self._open = {protocol: one for protocol, one in self._open.items() if one is not oldest}
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._forget_gone()
            late_s = time.monotonic() - self._request_s
            for connection in self._waiting():
                if connection.since_s < late_s:
                    connection.close()
                    self._count("no request")

    def _forget_gone(self) -> None:
        self._open = {protocol: one for protocol, one in self._open.items() if not one.gone}

    def _count(self, why: str) -> None:
        self._turned_away += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            self._tell(f"connections closed without an answer so far: {self._turned_away} ({why})")


def listener(family: int, address: tuple) -> socket.socket:
    """A socket that listens and doesn't block. Raises OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(128)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
