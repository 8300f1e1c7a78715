"""Prompts on disk, so that a model that was just loaded needn't hear again what it heard before.

A folder of files, one a prompt, named by all that makes it what it is; those not used for longest
go when it grows too large. Whoever clears it loses a second or two.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import MoshiError
from .past import LmPrompt
from .reading import StateModel, read_prompt
from .state_file import read_state

LIMIT_BYTES = 2_000_000_000  # some 25 prompts of a 7B
ENDING = ".prompt.safetensors"


def prompts_folder() -> Path:
    """~/.cache/moshi-local/prompts, or where XDG_CACHE_HOME has it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "moshi-local" / "prompts"


@dataclass(frozen=True)
class CachedPrompt:
    """A prompt on disk. title: what it says; used: seconds since 1970; frames: None if damaged."""

    path: Path
    title: str
    frames: int | None
    num_bytes: int
    used: float


class PromptCache:
    """Prompts by key. `folder`: None for the usual one; `limit_bytes`: of all files together."""

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = prompts_folder() if folder is None else folder
        self.limit_bytes = limit_bytes

    def get(self, key: str, model: StateModel) -> LmPrompt | None:
        """None where there is none; a file that can't be read is as good as none."""
        path = self.folder / f"{key}{ENDING}"
        if not path.is_file():
            return None
        try:
            prompt = read_prompt(path, model)
        except MoshiError:
            return None
        with suppress(OSError):  # a folder that is read only
            os.utime(path)
        return prompt

    def put(self, key: str, prompt: LmPrompt) -> None:
        """Write it, then let the oldest go. Raises OutputError."""
        if prompt.nbytes > self.limit_bytes:
            return
        with suppress(OSError):  # told by the writer
            self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key}{ENDING}"
        prompt.save(path)
        left = self.limit_bytes - path.stat().st_size
        for entry in self._files():
            if entry == path:
                continue
            with suppress(OSError):  # another process was quicker
                left -= entry.stat().st_size
                if left < 0:
                    entry.unlink()

    def entries(self) -> list[CachedPrompt]:
        """What is there, the last used first; headers are read, nothing else."""
        found = []
        for path in self._files():
            with suppress(OSError):
                status = path.stat()
                title, frames = described(path)
                found.append(CachedPrompt(path, title, frames, status.st_size, status.st_mtime))
        return found

    def clear(self) -> int:
        """Remove them all; how many there were."""
        files = self._files()
        for path in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _files(self) -> list[Path]:
        """The last used first."""
        dated = []
        for path in self.folder.glob(f"*{ENDING}"):
            with suppress(OSError):
                dated.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(dated, reverse=True)]


def described(path: Path) -> tuple[str, int | None]:
    """Title and frames, by the header alone."""
    try:
        facts = read_state(path, "prompt").facts
    except MoshiError:
        return "(damaged)", None
    title, frames = facts.get("title"), facts.get("prompt_frames")
    return title if isinstance(title, str) else "", frames if type(frames) is int else None
