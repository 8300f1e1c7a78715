"""The one line to the model: who is talking, who waits, and when it is free again.

A conversation holds the line from `enter` until the session has said that it ended, so the next
one always starts from clean state. Runs on the server's event loop; only `_from_session` is
called from elsewhere.
"""

import asyncio
import contextlib

from aiohttp import WSCloseCode

from moshi_mlx.errors import AudioError, MoshiError

from ..audio.keep_awake import KeepAwake
from ..events import (
    ConversationEnded,
    Event,
    Failed,
    Notice,
    Ready,
    Refused,
    Stopped,
    UserWord,
    UserWordsOver,
)
from ..talk.session import TalkSession
from . import protocol
from .recordings import Recordings
from .visit import LeftError, Visit

RECORD_S = 5.0  # the longest that a disk may take to begin a recording
QUIET_S = 3.0  # a visitor who sends nothing for so long may be taken over from
MOST_WAITING = 8
LOOK_EVERY_S = 0.2  # at the line, for those who wait
CLOSE_BUSY = 4409
CLOSE_REFUSED = 4400
CLOSE_FAILED = 4500


class BusyError(MoshiError):
    """Someone else is talking."""


class Line:
    """Hands one session to one visitor at a time."""

    def __init__(
        self,
        session: TalkSession,
        recordings: Recordings | None = None,
        record_s: float = RECORD_S,
        quiet_s: float = QUIET_S,
        awake: KeepAwake | None = None,
        writes_words: bool = False,
    ) -> None:
        """`recordings`: where conversations are kept for those who ask for it; None: nowhere.
        `record_s`: what a disk may take to begin one; `quiet_s`: who sends nothing for so long may
        be taken over from; `awake`: held while somebody talks;
        `writes_words`: what visitors say is written down beside the session (see `beside`)."""
        self._awake = awake or KeepAwake()
        self.session, self._record_s, self._quiet_s = session, record_s, quiet_s
        self.writes_words = writes_words
        self._recordings = recordings
        self.ready = asyncio.Event()  # loaded, or failed
        self.model: Ready | None = None
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._holder: Visit | None = None
        self._leaving = False
        self._hung_up: list[Visit] = []  # who wait for their last words
        self._queue: list[Visit] = []  # the first one is next
        self._free = asyncio.Event()
        self._free.set()
        session.subscribe(self._from_session)

    def busy(self) -> bool:
        return self._holder is not None and not self._leaving

    @property
    def waiting(self) -> int:
        """How many visitors wait."""
        return len(self._queue)

    def can_take_over(self) -> bool:
        return self._holder is None or self._leaving or self._holder.quiet_s() >= self._quiet_s

    async def hold(self, visit: Visit) -> LeftError:
        """The whole stay of one visitor, in the queue too, if they want to wait. Raises BusyError
        at once when someone else talks, or all places in the queue are taken."""
        try:
            await self._enter(visit)
        except LeftError as left:
            return left
        begun = False
        self._awake.start()
        try:
            await self._record(visit)
            self.session.begin(visit.port, visit.settings)
            begun = True
            left = await visit.converse()
        finally:
            if self._holder is not visit:
                pass  # the session has ended it, and the next one may be on
            elif begun:
                self._leaving = True
                self.session.hang_up()  # the line is free when the session says so
            else:  # nothing that the session could end
                self._release()
            if self._holder is None or self._leaving:
                self._awake.stop()
        self._hung_up.append(visit)
        try:
            await visit.last_words()
        finally:
            self._hung_up.remove(visit)
        return left

    async def _enter(self, visit: Visit) -> None:
        takes_over = visit.query.takeover and self.can_take_over()
        if visit.query.wait and not takes_over:
            await self._queue_up(visit)
        else:
            await self._send_holder_away(visit, takes_over)
        if self.failed.done():
            raise MoshiError(self.failed.result())
        self._holder, self._leaving = visit, False
        self._free.clear()

    async def _send_holder_away(self, visit: Visit, takes_over: bool) -> None:
        """Until nobody talks: raises BusyError where that is not for this visitor to say."""
        while self._holder is not None or (self._queue and not takes_over):
            if self._queue and not takes_over:
                raise BusyError("the line is busy: others are waiting for Moshi")
            if self._holder is not None and not self._leaving:
                if not (visit.query.takeover and self.can_take_over()):
                    raise BusyError("the line is busy: someone else is talking with Moshi")
                self._holder.send_away(LeftError("another visitor took over", CLOSE_BUSY))
            await self._free.wait() if self._leaving else await asyncio.sleep(0.01)

    async def _queue_up(self, visit: Visit) -> None:
        """Until nobody talks and nobody has waited longer. Raises BusyError, LeftError."""
        if len(self._queue) >= MOST_WAITING:
            raise BusyError(f"the line is busy, and {MOST_WAITING} others are waiting for it")
        self._queue.append(visit)
        try:
            while not self._is_next(visit):  # asked again without an await before the line is taken
                await self._stand_in_queue(visit)
        finally:
            self._queue.remove(visit)

    def _is_next(self, visit: Visit) -> bool:
        return self._holder is None and self._queue[0] is visit

    async def _stand_in_queue(self, visit: Visit) -> None:
        """Tell the visitor their place until it is their turn. Raises LeftError."""
        leaves = asyncio.create_task(visit.leaves())
        told: tuple[int, bool] | None = None
        try:
            while not self._is_next(visit):
                now = self._queue.index(visit), self.busy() and self.can_take_over()
                if now != told and visit.talks_ours:
                    await visit.say(protocol.waiting(*now))
                told = now
                ends = (visit.sent_away, leaves)
                done, _ = await asyncio.wait(
                    ends, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                for end in done:
                    raise end.result()
        finally:
            leaves.cancel()
            await asyncio.gather(leaves, return_exceptions=True)

    def send_all_away(self, why: str) -> None:
        """The server stops."""
        for visit in self._queue + self._hung_up:
            visit.send_away(LeftError(why, WSCloseCode.GOING_AWAY))
        if self._holder is not None:
            self._holder.send_away(LeftError(why, WSCloseCode.GOING_AWAY))

    def _from_session(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ended first
            self._loop.call_soon_threadsafe(self._on_event, event)

    def beside(self, event: Event) -> None:
        """What isn't the session's: a visitor's own words. Any thread."""
        self._from_session(event)

    def _on_event(self, event: Event) -> None:
        holder = self._holder
        if isinstance(event, Ready):
            self.model = event
            self.ready.set()
        elif isinstance(event, Failed):
            self._on_failure(event.message)
        elif isinstance(event, Refused):
            if holder is not None:
                holder.send_away(LeftError(holder.refusal(event), CLOSE_REFUSED))
            self._release()
        elif isinstance(event, ConversationEnded | Stopped):
            self._on_end(event)
        elif isinstance(event, UserWord | UserWordsOver):
            self._on_words(event)
        elif holder is not None:
            holder.on_event(event)

    def _on_words(self, event: UserWord | UserWordsOver) -> None:
        """To who said them, who may have hung up; into their recording in any case."""
        holder = self._holder
        for visit in {holder, *self._hung_up}:
            if visit is not None and visit.hears(event):
                visit.on_event(event)
        recorded = holder is not None and holder.hears(event)
        if not recorded and isinstance(event, UserWord) and self._recordings is not None:
            self._recordings.late_word(event)

    async def _record(self, visit: Visit) -> None:
        if not (visit.query.record and self._recordings):
            return

        def tell(notice: Notice) -> None:  # called on the recorder's thread
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(visit.notice, notice)

        try:
            async with asyncio.timeout(self._record_s):
                visit.recording = await self._recordings.begin(self.model, tell)
        except OSError as error:  # TimeoutError is one
            why = error.strerror or "the disk does not answer"
            raise AudioError(f"can't record: {why}; talk without a recording") from error

    def _on_end(self, event: ConversationEnded | Stopped) -> None:
        if self._holder is not None:
            self._holder.on_event(event)
        if isinstance(event, ConversationEnded) and event.reason == "failed":
            return  # Failed follows, with the reason
        if self._holder is not None and not self._leaving:
            self._holder.send_away(LeftError("the conversation has ended", WSCloseCode.OK))
        self._release()

    def _on_failure(self, message: str) -> None:
        if not self.failed.done():
            self.failed.set_result(message)
        self.ready.set()
        if self._holder is not None:  # who waits is told on coming in
            self._holder.send_away(LeftError(message, CLOSE_FAILED))

    def _release(self) -> None:
        if self._holder is not None:
            self._holder.end_recording()
        self._holder, self._leaving = None, False
        self._free.set()
