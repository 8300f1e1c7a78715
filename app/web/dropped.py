"""A sound file that a visitor drops on the page: what `moshi trace` says of it.

The file may come from anywhere and be anything, so another process looks at it: it may crash, take
its time or all of the machine, while the talk goes on. One file at a time, of a bounded size,
within a time; the copy goes whatever happens.
"""

import asyncio
import contextlib
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from moshi_mlx.audio.system_decoder import DECODERS, Decoders, undecodable
from moshi_mlx.errors import MoshiError

from ..machine.readers import child_command
from .wording import no_decoder, no_decoder_for_owner, signature

MOST_BYTES = 200_000_000  # a quarter of an hour of stereo in wav, hours of mp3 or opus
UPLOAD_S, LOOK_S = 120.0, 120.0
# Nobody else's file is looked at while one comes: it has so long, and a second more for so much.
BEGIN_S, SLOWEST_BYTES_PER_S = 10.0, 20_000
ASK_EVERY_S = 0.2  # whether the visitor is still there
KINDLY = 10  # how much other processes go before this one: the talk above all
FOUND_OR_NOT = (0, 3)
ENDING = re.compile(r"\.[a-z0-9]{1,5}")  # of the visitor's name, the only part that is used


def trace_command(path: Path) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of `moshi trace --json`."""
    return child_command("cli", "trace", "--json", str(path))


class RefusedFileError(MoshiError):
    """A file that can't be looked at; `status` is the answer's of HTTP."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class DroppedFiles:
    """Looks at one file at a time, on the server's event loop; copies lie in `folder` meanwhile."""

    def __init__(
        self,
        folder: Path,
        command: Callable[[Path], tuple[list[str], dict[str, str]]] = trace_command,
        most_bytes: int = MOST_BYTES,
        upload_s: float = UPLOAD_S,
        look_s: float = LOOK_S,
        begin_s: float = BEGIN_S,
        decoders: Decoders = DECODERS,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`command`: what looks at a file, with its environment; `decoders`: the system's, that it
        has for some formats; `tell` takes a line for the owner of the server."""
        self._folder, self._command, self.most_bytes = folder, command, most_bytes
        self._upload_s, self._look_s, self._begin_s = upload_s, look_s, begin_s
        self._decoders, self._tell = decoders, tell
        self._busy, self._lacking = asyncio.Lock(), set[str]()

    async def look(
        self, name: str, pieces: AsyncIterator[bytes], gone: Callable[[], bool]
    ) -> dict[str, Any]:
        """`MarkVerdict.as_json` of a file that arrives in pieces, without its path.

        `gone`: whether the visitor has left. Raises RefusedFileError.
        """
        if self._busy.locked():
            raise RefusedFileError("another file is being looked at; try again in a minute", 503)
        async with self._busy:
            with self._place() as folder:
                ending = Path(name).suffix.lower()  # the signature's reader goes by it
                path = folder / f"file{ending if ENDING.fullmatch(ending) else ''}"
                await self._receive(path, pieces)
                await self._check_decoder(path)
                return await self._ask(path, gone)

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        """A folder of its own, gone afterwards with all that is in it."""
        try:
            place = tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True)
        except OSError as error:
            raise no_room(error) from None
        with place as folder:
            yield Path(folder)

    async def _receive(self, path: Path, pieces: AsyncIterator[bytes]) -> None:
        size, begun_s = 0, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(self._begin_s, self._upload_s)) as patience:
                with open(path, "xb") as file:
                    async for piece in pieces:
                        size += len(piece)
                        if size > self.most_bytes:
                            raise self.too_large()
                        earned_s = self._begin_s + size / SLOWEST_BYTES_PER_S
                        patience.reschedule(begun_s + min(self._upload_s, earned_s))
                        await asyncio.to_thread(file.write, piece)
        except TimeoutError:
            line = f"the file did not arrive within {self._upload_s:.0f} s, or hardly at all"
            line += "; try a shorter one, or another network"
            raise RefusedFileError(line, 408) from None
        except OSError as error:
            raise no_room(error) from None
        if size == 0:
            raise RefusedFileError("the file is empty; choose another")

    def too_large(self) -> RefusedFileError:
        line = f"the file has more than {self.most_bytes / 1e6:.0f} MB; cut out a part of it"
        return RefusedFileError(line, 413)

    async def _check_decoder(self, path: Path) -> None:
        """The visitor can install nothing; who can is told once for each format."""
        kind = await asyncio.to_thread(undecodable, path, self._decoders)
        if kind is None:
            return
        if kind not in self._lacking:
            self._lacking.add(kind)
            self._tell(no_decoder_for_owner(kind))
        raise RefusedFileError(no_decoder(kind))

    async def _ask(self, path: Path, gone: Callable[[], bool]) -> dict[str, Any]:
        command, environment = self._command(path)
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, KINDLY)
        answer = asyncio.create_task(child.communicate())
        try:
            out, errors = await self._answer(answer, gone)
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            await asyncio.gather(answer, return_exceptions=True)
        if child.returncode not in FOUND_OR_NOT:
            raise RefusedFileError(line_of(errors.decode(errors="replace"), path))
        (told,) = json.loads(out)
        del told["file"]  # where the copy was
        return told | {"signature": signature(told)}

    async def _answer(
        self, answer: asyncio.Task[tuple[bytes, bytes]], gone: Callable[[], bool]
    ) -> tuple[bytes, bytes]:
        try:
            async with asyncio.timeout(self._look_s):
                while not answer.done():
                    if gone():
                        raise RefusedFileError("nobody waits for the answer any more", 499)
                    await asyncio.wait([answer], timeout=ASK_EVERY_S)
        except TimeoutError:
            line = f"the file takes longer than {self._look_s:.0f} s; cut out a part of it"
            raise RefusedFileError(line) from None
        return answer.result()


def line_of(errors: str, path: Path) -> str:
    """The child's own last line, about "the file" instead of the copy's path."""
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    if not said:
        return "the file can't be looked at: what reads it broke down over it"
    line = said[-1].removeprefix("error: ").replace(str(path), "the file")
    return line.replace("Error opening 'the file': ", "")


def no_room(error: OSError) -> RefusedFileError:
    why = error.strerror or str(error)
    return RefusedFileError(f"there is no room for the file where Moshi runs ({why})", 507)
