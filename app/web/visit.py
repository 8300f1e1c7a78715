"""One visitor's websocket: messages in become input samples, session events become messages out.

Runs on the server's event loop. The out queue is bounded: replies a client doesn't take are dropped
oldest first and counted, words are kept with the frame they belong to.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from moshi_mlx.errors import MoshiError

from ..audio.stream.port import QueuePort
from ..events import (
    ConversationEnded,
    ConversationStarted,
    Event,
    FrameDone,
    Notice,
    Ready,
    Refused,
    Settings,
    Status,
    UserWord,
    UserWordsOver,
)
from . import protocol
from .limits import InputLimit, Pacer
from .params import WHO, ChatQuery, RefusedError, shown
from .protocol import Kind, ProtocolError
from .recordings import Recording
from .wording import for_visitor

MAX_QUEUED_FRAMES = 25  # 2 s of replies
SEND_TIMEOUT_S = 5.0  # a client that takes nothing for so long has gone
LAST_WORDS_S = 1.0  # the longest that who has hung up waits for their own
STATUS_EVERY_FRAMES = 12
MAX_COMPLAINTS = 20  # error messages sent to one client about its own messages


class LeftError(MoshiError):
    """The visitor has gone, or was sent away; `code` is the websocket's close code."""

    def __init__(self, message: str, code: int = WSCloseCode.GOING_AWAY) -> None:
        super().__init__(message)
        self.code = code


class Visit:
    """A connected client. `port` is its side of the session, `sent_away` the end from outside."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        query: ChatQuery,
        usual: Settings,
        status: Callable[[], Status],
        model: Ready | None = None,
        save: "Callable[[Visit], None] | None" = None,
        writes_words: bool = False,
    ) -> None:
        """`usual`: what holds where the query says nothing; `save`: called where the visitor wants
        the talk saved; `writes_words`: what they say is written down. Raises MoshiError without
        the codec, RefusedError for a voice or an adapter that isn't there: a visitor names no file
        of this machine."""
        self.query = query
        self.port = QueuePort(on_play=lambda pcm: None)  # replies come as FrameDone events
        self.codec = protocol.CODECS[query.codec]()
        self.talks_ours = query.codec == "pcm"  # our own page: metadata and timing are welcome
        seed = usual.seed if query.seed is None else query.seed
        asked = {name: getattr(query, name) for name in WHO}
        who = {name: value for name, value in asked.items() if value is not None}
        if query.voice is not None and (model is None or query.voice not in model.voices):
            raise RefusedError(f"the model has no voice {shown(query.voice)}")
        if query.adapter is not None and (model is None or query.adapter not in model.adapters):
            raise RefusedError(f"the server has no adapter {shown(query.adapter)}")
        self.settings = replace(usual, seed=seed, **who, **query.sampling)  # type: ignore[arg-type]
        self._mark = "" if model is None else model.mark
        self._save, self._writes_words = save, writes_words
        self.dropped_replies = 0
        self.recording: Recording | None = None
        self._socket, self._status = socket, status
        self._limit, self._pacer = InputLimit(), Pacer()
        self._out: deque[FrameDone | bytes] = deque()
        self._wake = asyncio.Event()
        self._heard_s = time.monotonic()
        self._complaints = 0
        self._conversation = 0  # its number in the session, once it has begun
        self._words_over = False
        self.hung_up = False  # by a message: the socket stays for the last words
        self.sent_away: asyncio.Future[LeftError] = asyncio.get_running_loop().create_future()

    def quiet_s(self) -> float:
        """Seconds since the client's last message."""
        return time.monotonic() - self._heard_s

    def send_away(self, why: LeftError) -> None:
        """End `converse` from outside: the next visitor takes over, the server stops."""
        if not self.sent_away.done():
            self.sent_away.set_result(why)

    def tell(self, message: bytes) -> None:
        """Queue a whole message."""
        self._out.append(message)
        self._wake.set()

    async def say(self, message: bytes) -> None:
        """Send it now, while nobody converses. Raises LeftError when the client has gone."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._socket.send_bytes(message)
        except (TimeoutError, ConnectionError):
            raise LeftError("the connection is lost") from None

    async def leaves(self) -> LeftError:
        """While the visitor waits for the line: read and forget, until they go."""
        async for message in self._socket:
            self._heard_s = time.monotonic()
            if not self._limit.allows(len(message.data or b""), self._heard_s):
                return LeftError("too many messages at once", WSCloseCode.POLICY_VIOLATION)
            if message.type is WSMsgType.PING and self._limit.answers(self._heard_s):
                await self._socket.pong(message.data)
            await asyncio.sleep(0)
        return LeftError("left the queue", WSCloseCode.OK)

    def hears(self, event: UserWord | UserWordsOver) -> bool:
        """Whether it is this visitor's: words come late, when the next one may be on."""
        return event.conversation == self._conversation

    def on_event(self, event: Event) -> None:
        """A session event of this visitor's conversation, on the event loop."""
        if self.recording is not None:
            self.recording.on_event(event)
            if isinstance(event, ConversationEnded):
                self.end_recording()
        if isinstance(event, FrameDone):
            self._queue_frame(event)
        elif isinstance(event, UserWord):
            if self.talks_ours:
                word = {"type": "your-word", "text": event.text, "at_s": event.at_s}
                self.tell(protocol.metadata(word))
        elif isinstance(event, UserWordsOver):
            self._words_over = True
            self._wake.set()
        elif isinstance(event, ConversationStarted):  # what was sent before isn't heard
            self._conversation = event.number
            self.tell(protocol.handshake())
            if self.talks_ours:
                self.tell(protocol.metadata(self._started(event)))
        elif self.talks_ours and isinstance(event, Notice):
            self.notice(event)

    def refusal(self, event: Refused) -> str:
        """Why the session takes no such talk, without a place of this machine."""
        path = self.settings.resume
        return event.message if path is None else event.message.replace(str(path), path.name)

    def end_recording(self) -> None:
        """Finish its files, if there is one."""
        if self.recording is not None:
            self.recording.close()
            self.recording = None  # it holds `notice`: no circle keeps this visit's buffers

    def notice(self, notice: Notice) -> None:
        """Only for clients of ours."""
        message = for_visitor(notice)
        if message is not None:
            told = {"type": "notice", "kind": notice.kind, "message": message}
            self.tell(protocol.metadata(told))

    def _started(self, event: ConversationStarted) -> dict:
        status = self._status()
        return {
            "type": "started",
            "seed": event.seed,
            "model": status.model,
            "recipe": status.recipe,
            "adapter": status.adapter,
            "mark": self._mark,
            "sampling": event.settings.sampling(),
            "recording": self.recording.id if self.recording else "",
            "saves": self._save is not None,
            "your_words": self._writes_words,
            "resumed": event.settings.resume is not None,
        }

    def _queue_frame(self, frame: FrameDone) -> None:
        if self.hung_up:
            return
        queued = sum(1 for item in self._out if isinstance(item, FrameDone))
        if queued >= MAX_QUEUED_FRAMES:
            oldest = next(n for n, item in enumerate(self._out) if isinstance(item, FrameDone))
            old = self._out[oldest]
            assert isinstance(old, FrameDone)
            self._out[oldest] = protocol.text(old.text)
            self.dropped_replies += 1
        self._out.append(frame)
        if self.talks_ours and frame.index % STATUS_EVERY_FRAMES == 0:
            self._out.append(protocol.metadata(self._figures(frame)))
        self._wake.set()

    def _figures(self, frame: FrameDone) -> dict:
        status = self._status()
        return {
            "type": "status",
            "step_ms_p50": round(status.step_ms_p50, 1),
            "step_ms_p95": round(status.step_ms_p95, 1),
            "lag_ms": round(frame.lag_ms, 1),
            "dropped_frames": round(frame.dropped_frames, 2),
            "dropped_replies": self.dropped_replies,
            "memory_bytes": status.memory_bytes,
            "hears_speech": status.speech,
        }

    async def converse(self) -> LeftError:
        """Read and write until the client goes or is sent away; says why it ended."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            waiting = [*tasks, self.sent_away]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self.sent_away.done():
                return self.sent_away.result()
            return next(task.result() for task in tasks if task.done())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def last_words(self) -> None:
        """After `converse`, where the visitor waits for them: what they said last, until it is
        over, they are gone or sent away, or LAST_WORDS_S have passed. Sound is over."""
        if not (self.hung_up and self._writes_words):
            return
        self._out = deque(message for message in self._out if isinstance(message, bytes))
        tasks = [asyncio.create_task(self.leaves()), asyncio.create_task(self._write())]
        try:
            waiting = [*tasks, self.sent_away]
            await asyncio.wait(waiting, timeout=LAST_WORDS_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> LeftError:
        async for message in self._socket:
            self._heard_s = time.monotonic()
            if message.type is WSMsgType.ERROR:
                break
            if not self._limit.allows(len(message.data), self._heard_s):
                return LeftError("too many messages at once", WSCloseCode.POLICY_VIOLATION)
            if message.type is WSMsgType.PING:
                if self._limit.answers(self._heard_s):
                    await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                self._understand(message)
                if self.hung_up:
                    break
            await asyncio.sleep(0)  # messages that wait already must not keep others from the loop
        return LeftError("hung up", WSCloseCode.OK)

    def _understand(self, message: WSMessage) -> None:
        try:
            if message.type is not WSMsgType.BINARY:
                raise ProtocolError("only binary messages are understood here")
            self._take(message.data)
        except ProtocolError as problem:
            self._complain(problem)

    def _take(self, message: bytes) -> None:
        kind, payload = protocol.split(message)
        if kind is self.codec.kind:
            if not self._limit.decodes(self.codec.measure(payload), self._heard_s):
                raise ProtocolError("sound faster than anyone speaks: it is left out")
            samples = self.codec.decode(payload)
            if len(samples):
                self.port.push_input(samples[-2 * protocol.MAX_PCM_SAMPLES :])
        elif kind is Kind.PING and self.talks_ours and self._limit.answers(self._heard_s):
            self.tell(bytes([Kind.PING]) + payload[:16])
        elif kind is Kind.METADATA and payload == protocol.SAVE and self._save and self.talks_ours:
            self._save(self)
        elif kind is Kind.METADATA and payload == protocol.HANG_UP and self.talks_ours:
            self.hung_up = True
        # handshake, text, control and other metadata mean nothing; unknown types are ignored

    def _complain(self, problem: ProtocolError) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            self.tell(protocol.error(str(problem)))

    async def _write(self) -> LeftError:
        while True:
            while not self._out:
                if self.hung_up and self._words_over:
                    return LeftError("hung up", WSCloseCode.OK)
                self._wake.clear()
                await self._wake.wait()
            item = self._out.popleft()
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._send(item)
            except (TimeoutError, ConnectionError):
                return LeftError("the connection is lost", WSCloseCode.GOING_AWAY)

    async def _send(self, item: FrameDone | bytes) -> None:
        if isinstance(item, bytes):
            if len(item) > 1:
                await self._socket.send_bytes(item)
            return
        if item.reply is not None:
            await self._send_sound(item)
        if item.text:
            await self._socket.send_bytes(protocol.text(item.text))

    async def _send_sound(self, frame: FrameDone) -> None:
        if not self.talks_ours:
            await asyncio.sleep(self._pacer.wait_s(time.monotonic()))
            self._pacer.sent(time.monotonic())
        assert frame.reply is not None
        computed_ms = frame.lag_ms - frame.wait_ms  # model and codec, beside each other or not
        waited_ms = 1000 * (time.monotonic() - frame.captured_s) - computed_ms
        message = self.codec.encode(frame.reply, frame.index, waited_ms, computed_ms)
        if message:
            await self._socket.send_bytes(message)
