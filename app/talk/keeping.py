"""Talks written to disk while they go on: the model's thread gives them, a thread here writes.

A snapshot is host memory by then, so the disk may take its time; a frame never waits for it.
"""

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

from moshi_mlx.errors import MoshiError

from ..events import Notice
from .engine import TalkFile
from .kept_talk import ENDING

GIVE_UP_S = 0.2  # a piece of a file takes no longer, on a disk that answers


class TalkKeeper:
    """Of one chat. `tell` is called with a Notice once a talk is on disk, or why it isn't."""

    def __init__(
        self,
        folder: Path,
        tell: Callable[[Notice], None],
        suffix: Callable[[], str] = lambda: "",
    ) -> None:
        """suffix: of the next file's name."""
        self.folder, self._tell, self._suffix = folder, tell, suffix
        self.kept: list[Path] = []
        self._busy, self._given_up = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def reserve(self) -> bool:
        """Ask for the one place there is; False while another talk is being written. Any thread."""
        if self._busy.is_set():
            return False
        self._busy.set()
        return True

    def refuse(self, why: str) -> None:
        """There is nothing to write; the place is free again."""
        self._busy.clear()
        self._tell(Notice("save-failed", why))

    def take(self, talk: TalkFile, number: int) -> None:
        """Begin to write; never waits. `number`: the conversation's, for the name."""
        self._thread = threading.Thread(
            target=self._write, args=(talk, number), name="moshi-keeper", daemon=True
        )
        self._thread.start()

    def _write(self, talk: TalkFile, number: int) -> None:
        try:
            path = self._place(number)
            talk.write(path, lambda: not self._given_up.is_set())
        except (MoshiError, OSError) as error:
            why = str(error) if isinstance(error, MoshiError) else error.strerror
            self._tell(Notice("save-failed", f"the talk wasn't saved: {why}"))
        else:
            self.kept.append(path)
            self._tell(Notice("saved", f"saved: {resume_line(path)}"))
        finally:
            self._busy.clear()

    def _place(self, number: int) -> Path:
        """A name that isn't taken, in a folder that is there. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        name, copy = f"{stamp}_talk{number}{self._suffix()}", 1
        path = self.folder / f"{name}{ENDING}"
        while path.exists():
            copy += 1
            path = self.folder / f"{name}-{copy}{ENDING}"
        return path

    def close(self, timeout_s: float) -> None:
        """Wait for what is being written; after `timeout_s` it is given up, and no file stays."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._given_up.set()
            self._thread.join(GIVE_UP_S)


def resume_line(path: Path, command: str = "chat") -> str:
    """What goes on with it, as it is typed."""
    return f"moshi {command} --resume {shlex.quote(str(path))}"
