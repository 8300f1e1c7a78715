"""Whether a MacBook's lid is closed: its microphone is disconnected in hardware then."""

import re
import subprocess
import sys

COMMAND = ("/usr/sbin/ioreg", "-r", "-k", "AppleClamshellState", "-d", "4")
TIMEOUT_S = 1.0


def lid_closed() -> bool:
    """False where there is no lid, and where nobody can tell."""
    if sys.platform != "darwin":
        return False
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return False
    return read_lid(done.stdout)


def read_lid(text: str) -> bool:
    """What ioreg prints -> True for a lid that is closed."""
    return bool(re.search(r'"AppleClamshellState" = Yes', text))
