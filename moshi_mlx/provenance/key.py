"""Keys of the mark: the public one, in the package, and private ones in files of their owner's.

A key is any bytes; the +-1 patterns of the mark are expanded from it (`pattern`). With the public
key anybody can check that sound was made by moshi-local, and anybody can forge or remove that. A
private key adds "made by me" for whoever holds it.
"""

import os
import secrets
import stat
from pathlib import Path

from ..errors import MoshiError

PUBLIC_KEY = b"moshi-local, the public key of the mark, version 1"
PRIVATE_BYTES = 32
HEADER = "moshi-local mark key 1"
MAX_FILE_BYTES = 1024


def read_key(path: str | Path) -> bytes:
    """The key in a file that `make_key` wrote. MoshiError for one lost, damaged or readable by
    others."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise MoshiError(
            f"no key at {path}; what it marked can't be checked without it: look for a copy, or "
            "make a new one with moshi trace --make-key FILE"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        why = getattr(error, "strerror", None) or error
        raise MoshiError(f"the key at {path} can't be read ({why})") from None
    if mode & 0o077:
        raise MoshiError(f"the key at {path} can be read by others: chmod 600 {path}")
    lines = raw.decode("ascii", "replace").split("\n")
    try:
        key = bytes.fromhex(lines[1]) if lines[0] == HEADER and len(lines) > 1 else b""
    except ValueError:
        key = b""
    if len(key) != PRIVATE_BYTES:
        raise MoshiError(f"{path} is not a key of the mark; moshi trace --make-key FILE makes one")
    return key


def make_key(path: str | Path) -> bytes:
    """A new private key in a new file that its owner alone can read (0600). MoshiError for a file
    that is there already or can't be written."""
    path, key = Path(path), secrets.token_bytes(PRIVATE_BYTES)
    try:
        if os.path.lexists(path):
            raise MoshiError(f"{path} is there already; a key is never overwritten")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise MoshiError(f"no key can be written to {path} ({why})") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{HEADER}\n{key.hex()}\n")
    except OSError as error:  # a full disk
        path.unlink(missing_ok=True)
        raise MoshiError(f"no key can be written to {path} ({error.strerror})") from None
    return key
