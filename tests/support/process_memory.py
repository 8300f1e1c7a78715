"""What the system counts for this process, beside what MLX counts."""

import os
from pathlib import Path


def resident_bytes() -> int | None:
    """Linux's count, None elsewhere."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
