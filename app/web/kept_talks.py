"""Talks that visitors save, in one folder of this machine, and those that they may go on with.

A visitor names no file: what a saved talk is called holds a secret that only its visitor was told,
and nothing else in the folder is opened for them. What `--resume` names is offered to all.
"""

import asyncio
import contextlib
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from moshi_mlx.errors import MoshiError

from ..events import Notice, Settings
from ..talk.engine import TalkFile
from ..talk.keeping import TalkKeeper, resume_line
from ..talk.kept_talk import ENDING, AskedModel, KeptTalk, kept_talk, note_of
from ..talk.session import SaveRequest, TalkSession
from . import protocol
from .limits import Bucket
from .params import ChatQuery, RefusedError
from .visit import Visit

MOST = 50  # files of one server: a visitor must not fill a disk
SAVES_PER_S, SAVES_AT_ONCE = 0.1, 3
SECRET_BYTES = 16
FAILED = "The talk couldn't be saved. Whoever runs Moshi sees the reason on its computer."
NAME = re.compile(r"[0-9_-]{19}_talk[0-9]{1,9}_[A-Za-z0-9_-]{22}(-[0-9]{1,3})?" + re.escape(ENDING))


def on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class KeptTalks:
    """Of one server, on its event loop."""

    def __init__(
        self,
        session: TalkSession,
        folder: Path | None,
        source: AskedModel,
        offered: KeptTalk | None = None,
        tell: Callable[[str], None] = on_stderr,
        limit: Bucket | None = None,
    ) -> None:
        """folder: None where visitors save nothing; source: how the model was asked for; offered:
        one that all may go on with; tell: what who runs the server reads."""
        self._session, self._folder, self._source = session, folder, source
        self._offered, self._tell = offered, tell
        self._limit = limit or Bucket(SAVES_PER_S, SAVES_AT_ONCE)
        self._loop = asyncio.get_running_loop()
        self._visit: Visit | None = None  # whose talk is being saved
        self._keeper = None if folder is None else TalkKeeper(folder, self._told, secret_suffix)

    @property
    def saves(self) -> bool:
        return self._keeper is not None

    @property
    def offers(self) -> list[dict]:
        """For the page of every visitor."""
        one = self._offered
        return [] if one is None else [{"name": one.path.name, "seconds": round(one.seconds)}]

    def save(self, visit: Visit) -> None:
        """The talk that `visit` is holding, before its next frame; they are told once it is on
        disk, or that it isn't. Never waits."""
        keeper = self._keeper
        if keeper is None:
            self._refuse(visit, "Talks aren't saved here.")
        elif len(keeper.kept) >= MOST:
            self._refuse(visit, f"{MOST} talks are saved: no more before Moshi is started anew.")
        elif not self._limit.take(1, time.monotonic()):
            self._refuse(visit, "A talk was saved a moment ago; wait a little.")
        elif not keeper.reserve():
            self._refuse(visit, "A talk is being saved already.")
        else:
            self._visit = visit
            self._session.keep(SaveRequest(self._note, self._take, keeper.refuse))

    def _note(self, settings: Settings) -> str:
        return note_of(self._source, settings)

    def _take(self, talk: TalkFile, number: int) -> None:
        assert self._keeper is not None
        self._keeper.take(talk, number)

    def _refuse(self, visit: Visit, why: str) -> None:
        visit.tell(protocol.metadata({"type": "not-saved", "message": why}))

    def _told(self, notice: Notice) -> None:
        """On the thread that writes, or the model's."""
        assert self._keeper is not None
        path = self._keeper.kept[-1] if notice.kind == "saved" else None
        self._tell(notice.message if path is None else f"saved: {resume_line(path, 'web')}")
        told = {"type": "not-saved", "message": FAILED}  # the reason names places of this machine
        if path is not None:
            told = {"type": "saved", "name": path.name, "seconds": round(kept_talk(path).seconds)}
        visit, self._visit = self._visit, None
        if visit is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server ended first
                self._loop.call_soon_threadsafe(visit.tell, protocol.metadata(told))

    async def asked(self, query: ChatQuery) -> KeptTalk | None:
        """The talk that a visitor wants to go on with; None for a new one. Raises RefusedError."""
        if not query.resume:
            return None
        found = await asyncio.to_thread(self.find, query.resume)
        if found is None:
            raise RefusedError("that talk isn't here any more, or is of no use; begin a new one")
        return found

    def find(self, name: str) -> KeptTalk | None:
        """By its name: the one that is offered, or one of the folder whose secret they know."""
        if self._offered is not None and name == self._offered.path.name:
            return self._offered
        if self._folder is None or not NAME.fullmatch(name):
            return None
        path = self._folder / name
        if path.is_symlink() or not path.is_file():
            return None
        try:
            return kept_talk(path)
        except MoshiError:
            return None

    def close(self, timeout_s: float) -> None:
        """Wait for what is being written; after that time it is given up."""
        if self._keeper is not None:
            self._keeper.close(timeout_s)


def secret_suffix() -> str:
    return f"_{secrets.token_urlsafe(SECRET_BYTES)}"


def going_on(kept: KeptTalk, usual: Settings) -> Settings:
    """How a talk is held that goes on: as it was."""
    return replace(kept.settings, greeting=usual.greeting)
