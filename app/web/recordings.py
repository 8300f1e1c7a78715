"""The last recorded conversation, kept in a temporary folder for its visitor to download.

Its address holds a random name that only this visitor was told. The next recorded conversation
replaces it, and the folder goes when the server stops.
"""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..events import Event, Notice, Ready
from ..recording.recorder import Recorder

# name in the address -> (file of the recorder, content type)
FILES = {
    "recording.wav": ("talk.wav", "audio/wav"),
    "transcript.jsonl": ("transcript.jsonl", "application/x-ndjson"),
    "transcript.vtt": ("transcript.vtt", "text/vtt; charset=utf-8"),
}
HANG_UP_S = 1.0  # the longest that the end of a conversation may take to get here


class Recording:
    """One conversation on its way to disk. `id` is the secret part of its address."""

    def __init__(self, folder: Path, on_notice: Callable[[Notice], None]) -> None:
        self.id = secrets.token_urlsafe(16)
        self._folder = folder / self.id
        self._recorder = Recorder(self._folder, on_notice=on_notice)
        self._closed: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def on_event(self, event: Event) -> None:
        self._recorder(event)

    def close(self) -> None:
        """Finish the files, on another thread, since a disk may be slow."""
        if self._closed is None:
            self._closed = asyncio.create_task(asyncio.to_thread(self._recorder.close))
            self._over.set()

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


class Recordings:
    """A context manager: everything is gone when it ends."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="moshi-web-", ignore_cleanup_errors=True)
        self._last: Recording | None = None

    def __enter__(self) -> "Recordings":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    async def begin(self, ready: Ready | None, on_notice: Callable[[Notice], None]) -> Recording:
        """A new recording in place of the last. Raises AudioError when the disk refuses."""
        if self._last is not None:
            await self._last.discard()
        self._last = Recording(Path(self._folder.name), on_notice)
        if ready is not None:
            self._last.on_event(ready)
        return self._last

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
