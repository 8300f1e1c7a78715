"""Ask a process of its own for a file's Content Credentials; whatever happens to it is one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from moshi_mlx.errors import with_extra

from .credentials import KINDS, available
from .signing_key import NAME, folder, read

BASE_S, BYTES_PER_S = 20.0, 10_000_000  # a file is hashed at 30 MB a second or more
NOT_INSTALLED = f"not looked at: {with_extra('c2pa')} adds that"


def credentials_of(path: Path, own_key: Path | None = None) -> dict[str, Any]:
    """As `manifest_reader.read`; state "unknown" with `why` where nobody could look."""
    if path.suffix.lower() not in KINDS:
        return {"state": "none"}
    if not available():
        return {"state": "unknown", "why": NOT_INSTALLED}
    command = [sys.executable, "-m", f"{__package__}.manifest_reader", str(path.absolute())]
    limit_s = BASE_S + path.stat().st_size / BYTES_PER_S
    root = own_root(own_key or folder() / NAME)
    try:
        asked = subprocess.run(
            command, input=root, capture_output=True, text=True, timeout=limit_s, cwd=home()
        )
        told = json.loads(asked.stdout)
        return told if asked.returncode == 0 else broken(f"status {asked.returncode}")
    except subprocess.TimeoutExpired:
        return broken(f"no answer in {limit_s:.0f} s")
    except (ValueError, OSError):
        return broken("the reader ended early")


def own_root(path: Path) -> str:
    """PEM of this machine's root, "" without one. A key of no use is none here."""
    from moshi_mlx.errors import MoshiError

    try:
        return read(path).root.decode("ascii")
    except MoshiError:
        return ""


def home() -> Path:
    """The folder from which this package can be imported by its name."""
    return Path(__file__).resolve().parents[len((__package__ or "").split("."))]


def broken(why: str) -> dict[str, Any]:
    return {"state": "unreadable", "problems": [why]}
