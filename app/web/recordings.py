"""The last recorded conversation, kept in a temporary folder for its visitor to download.

Its address holds a random name that only this visitor was told. The next recorded conversation
replaces it, and the folder goes when the server stops.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

from moshi_mlx.errors import AudioError

from ..events import Event, Notice, Ready, UserWord
from ..provenance.seal import Seal
from ..recording.recorder import Recorder

# name in the address -> (file of the recorder, content type)
FILES = {
    "recording.wav": ("talk.wav", "audio/wav"),
    "transcript.jsonl": ("transcript.jsonl", "application/x-ndjson"),
    "transcript.vtt": ("transcript.vtt", "text/vtt; charset=utf-8"),
    "you.jsonl": ("you.jsonl", "application/x-ndjson"),
}
HANG_UP_S = 1.0  # the longest that the end of a conversation may take to get here


class Recording:
    """One conversation on its way to disk. `id` is the secret part of its address."""

    def __init__(
        self,
        folder: Path,
        on_notice: Callable[[Notice], None],
        seal: Seal | None,
        unsigned: Callable[[str], None],
    ) -> None:
        """unsigned: told why the sound isn't signed, on another thread."""
        self._unsigned = unsigned
        self.id = secrets.token_urlsafe(16)
        self._folder = folder / self.id
        self._recorder = Recorder(self._folder, on_notice=on_notice, seal=seal)
        self._closed: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def on_event(self, event: Event) -> None:
        self._recorder(event)

    def close(self) -> None:
        """Finish the files, on another thread, since a disk may be slow."""
        if self._closed is None:
            self._closed = asyncio.create_task(asyncio.to_thread(self._finish))
            self._over.set()

    def _finish(self) -> None:
        self._recorder.close()
        for why in self._recorder.unsigned.values():
            self._unsigned(why)

    def late_word(self, word: UserWord) -> None:
        """One of the visitor's last, which come when the conversation is over."""
        if self._closed is not None:
            self._closed = asyncio.create_task(self._add(self._closed, word))

    async def _add(self, before: asyncio.Task[None], word: UserWord) -> None:
        await before
        await asyncio.to_thread(self._recorder.late_word, word)

    async def file(self, name: str) -> Path | None:
        """A finished file by its name in the address; None when there is none."""
        with contextlib.suppress(TimeoutError):  # who asks has just hung up
            await asyncio.wait_for(self._over.wait(), HANG_UP_S)
        if name not in FILES or self._closed is None:
            return None
        await asyncio.shield(self._closed)
        takes = self._recorder.takes
        path = takes[0] / FILES[name][0] if takes else None
        return path if path is not None and path.is_file() else None

    async def discard(self) -> None:
        self.close()
        assert self._closed is not None
        await asyncio.shield(self._closed)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


class TemporaryFolder:
    """One that the next start removes where this process can't any more: a lock shows who lives."""

    PREFIX, LOCK = "moshi-web-", ".lock"
    LEFT_S = 3600.0  # one without a lock, from a start that was killed at once, goes after an hour

    def __init__(self) -> None:
        """Raises OSError."""
        self.sweep()
        self.path = Path(tempfile.mkdtemp(prefix=self.PREFIX))
        self._lock = os.open(self.path / self.LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._lock, f"{os.getpid()}\n".encode())  # for who looks into it

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    @classmethod
    def sweep(cls) -> None:
        """Remove what servers of this user left that were killed."""
        for path in Path(tempfile.gettempdir()).glob(f"{cls.PREFIX}*"):
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and cls._left(path):
                    shutil.rmtree(path, ignore_errors=True)

    @classmethod
    def _left(cls, path: Path) -> bool:
        try:
            lock = os.open(path / cls.LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return time.time() - path.lstat().st_mtime > cls.LEFT_S
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True


class Recordings:
    """A context manager: everything is gone when it ends."""

    def __init__(self, seal: Seal | None = None, tell: Callable[[str], None] = print) -> None:
        """`seal`: what finished recordings get; `tell`: who runs the server, in lines. Raises
        AudioError when no temporary folder can be made."""
        self._seal, self._tell = seal, tell
        self._told: set[str] = set()
        try:
            self._folder = TemporaryFolder()
        except OSError as error:
            raise AudioError(
                f"no temporary folder can be made ({error.strerror or error}); free some space, "
                "or say where with TMPDIR"
            ) from None
        self._last: Recording | None = None

    def __enter__(self) -> "Recordings":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def folder(self) -> Path:
        return self._folder.path

    def remove(self) -> None:
        self._folder.remove()

    async def begin(self, ready: Ready | None, on_notice: Callable[[Notice], None]) -> Recording:
        """A new recording in place of the last. Raises OSError when the disk refuses."""
        last, self._last = self._last, None
        if last is not None:
            await last.discard()
        begin = partial(Recording, self._folder.path, on_notice, self._seal, self._unsigned)
        try:
            self._last = await asyncio.to_thread(begin)
        except AudioError as error:  # which names a place of this machine to a visitor
            raise error.__cause__ or error from None
        if ready is not None:
            self._last.on_event(ready)
        return self._last

    def _unsigned(self, why: str) -> None:
        """Once a reason, however many visitors come."""
        if why not in self._told:
            self._told.add(why)
            self._tell(f"a visitor's recording: {why}")

    def late_word(self, word: UserWord) -> None:
        """Of a conversation that is over, if it is the last one; else it is dropped."""
        if self._last is not None:
            self._last.late_word(word)

    async def file(self, recording_id: str, name: str) -> Path | None:
        """The file behind an address, once the conversation is over; None for a wrong one."""
        last = self._last
        if last is None or not secrets.compare_digest(last.id.encode(), recording_id.encode()):
            return None
        return await last.file(name)

    async def close(self) -> None:
        """Before the loop ends: no thread may be left writing."""
        if self._last is not None:
            await self._last.discard()
            self._last = None
