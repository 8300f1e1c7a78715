"""What a folder holds, so that a test can say that nothing in it was touched."""

import hashlib
import os
import stat
from pathlib import Path


def tree_digest(folder: Path, *leave_out: str) -> dict[str, str]:
    """relative path -> kind, rights and contents; `leave_out`: names at the top that may change."""
    found = {}
    for root, folders, names in os.walk(folder):
        if Path(root) == folder:
            folders[:] = [name for name in folders if name not in leave_out]
        for name in (*folders, *names):
            path = Path(root, name)
            status = path.lstat()
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            rest = f"{stat.filemode(status.st_mode)} {status.st_nlink if not path.is_dir() else 0}"
            found[str(path.relative_to(folder))] = f"{rest} {content}"
    return {name: said for name, said in found.items() if name not in leave_out}
